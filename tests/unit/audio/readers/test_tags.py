"""Titles and artists in whatever encoding a file was written."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest
import soundfile

from tonearm.audio.decode import decode_waveform
from tonearm.audio.readers import tags

FIELDS = {
    "cp1251": ("Кино", "Группа крови", "Звезда по имени Солнце"),
    "koi8_r": ("Кино", "Группа крови", ""),
    "cp1252": ("Déjà vu à l'été", "Björk Müller", "Ænima"),
    "cp1253": ("Μίκης Θεοδωράκης", "Ζορμπάς", ""),
    "cp1255": ("עברי לידר", "האדם", ""),
    "cp1256": ("فيروز", "كيفك انت", ""),
    "cp932": ("椎名林檎", "丸ノ内サディスティック", ""),
    "gb18030": ("周杰伦", "青花瓷", "我很忙"),
    "cp949": ("아이유", "좋은 날", ""),
    "big5": ("周杰倫", "青花瓷", ""),
}
LATIN = (
    *(("Sigur Rós",), ("Beyoncé", "Déjà Vu"), ("Mötley Crüe",), ("Motörhead",), ("Señor",), ("Café del Mar",)),
    *(("Blümchen", "Herz an Herz"), ("José González", "Crosses", "Veneer"), ("naïve’s “quote”",), ("Å",), ("Öä",)),
    *(("Ágætis byrjun", "Sigur Rós", "Svefn-g-englar"), ("Über", "Straße der Ölsardinen", "Größenwahn")),
)


def as_bytes(text: str, encoding: str) -> str:
    return text.encode(encoding).decode(tags.AS_BYTES)


@pytest.mark.parametrize("encoding", FIELDS)
def test_code_pages_are_told_from_all_fields_together(encoding: str) -> None:
    names = ("TITLE", "Artist", "album")
    fields = {name: as_bytes(text, encoding) for name, text in zip(names, FIELDS[encoding], strict=True)}
    assert tuple(tags.decoded(fields).values()) == FIELDS[encoding]
    assert list(tags.decoded(fields)) == ["title", "artist", "album"]


@pytest.mark.parametrize("texts", LATIN, ids="/".join)
def test_few_letters_beyond_ascii_are_western(texts: tuple[str, ...]) -> None:
    fields = {str(number): as_bytes(text, "cp1252") for number, text in enumerate(texts)}
    assert tuple(tags.decoded(fields).values()) == texts


@pytest.mark.parametrize("texts", [*FIELDS.values(), *LATIN], ids="/".join)
def test_utf_8_is_taken_at_its_word(texts: tuple[str, ...]) -> None:
    fields = {str(number): as_bytes(text, "utf-8") for number, text in enumerate(texts)}
    assert tuple(tags.decoded(fields).values()) == texts


def test_what_is_said_to_be_latin_1_and_is_cyrillic() -> None:
    said = {name: text.encode("cp1251").decode("latin-1") for name, text in (("a", "Группа крови"), ("b", "Кино"))}
    fields = {name: as_bytes(text, "utf-8") for name, text in said.items()} | {"c": "1988"}
    assert tags.decoded(fields, may_be_wrong=True) == {"a": "Группа крови", "b": "Кино", "c": "1988"}


def test_bytes_that_are_no_text_are_no_error() -> None:
    found = tags.decoded({"title": as_bytes("\x00", "latin-1") + "\xff\xfe\x81", "artist": ""})
    assert isinstance(found["title"], str) and found["artist"] == ""


def wav(*chunks: tuple[bytes, bytes]) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16000, np.float32), 16000, format="WAV", subtype="PCM_16")
    body = file.getvalue()[12:] + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def info(**fields: bytes) -> tuple[bytes, bytes]:
    parts = [
        name.encode() + struct.pack("<I", len(value) + 1) + value + b"\0" * (2 - len(value) % 2)
        for name, value in fields.items()
    ]
    return b"LIST", b"INFO" + b"".join(parts)


def id3v2(**frames: bytes) -> bytes:
    body = b"".join(
        name.encode() + struct.pack(">IH", len(value) + 1, 0) + b"\0" + value for name, value in frames.items()
    )
    size = bytes((len(body) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + body


def mp3() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp3", options={"id3v2_version": "0", "write_id3v1": "0"}) as container:
        stream = container.add_stream("libmp3lame", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def id3v1(title: bytes, artist: bytes) -> bytes:
    return b"TAG" + title.ljust(30, b"\0") + artist.ljust(30, b"\0") + b"\0" * 65


@pytest.mark.parametrize(
    ("data", "title", "artist"),
    [
        (lambda: wav(info(INAM="Déjà vu".encode("cp1252"), IART=b"Crosby")), "Déjà vu", "Crosby"),
        (lambda: wav(info(INAM="Кино".encode("cp1251"), IART="Группа крови".encode("cp1251"))), "Кино", "Группа крови"),
        (lambda: wav((b"id3 ", id3v2(TIT2=b"A title", TPE1=b"An artist"))), "A title", "An artist"),
        (lambda: wav((b"ID3 ", id3v2(TIT2="Björk".encode("latin-1")))), "Björk", None),
        (lambda: wav(), None, None),
        (lambda: mp3() + id3v1("Déjà vu".encode("latin-1"), b"Crosby"), "Déjà vu", "Crosby"),
        (lambda: mp3() + id3v1("Группа крови".encode("cp1251"), "Кино".encode("cp1251")), "Группа крови", "Кино"),
        (lambda: id3v2(TIT2="Größe".encode("latin-1")) + mp3(), "Größe", None),
        (lambda: id3v2(TIT2="Пачка сигарет".encode("cp1251")) + mp3(), "Пачка сигарет", None),
    ],
    ids=[
        *("info in cp1252", "info in cp1251", "id3 in a chunk", "ID3 in a chunk", "none", "ID3v1 in Latin-1"),
        *("ID3v1 in cp1251", "ID3v2 in Latin-1", "ID3v2 that says Latin-1 and is cp1251"),
    ],
)
def test_files(data: object, title: str | None, artist: str | None) -> None:
    _, found = decode_waveform(data())  # type: ignore[operator]
    assert (found.title, found.artist) == (title, artist)


@pytest.mark.parametrize(
    "texts",
    [("Öö", "Ääni"), ("¿Qué?", "¡Olé!"), ("ÉTÉ", "Zaz", "ÉTÉ"), ("Þú", "Þú", "Þú"), ("½ & ½", "÷"), ("°C",), ("Áður",)],
    ids="/".join,
)
def test_what_states_its_encoding_and_few_letters_stay(texts: tuple[str, ...]) -> None:
    stated = {str(number): as_bytes(text, "utf-8") for number, text in enumerate(texts)}
    assert tuple(tags.decoded(stated).values()) == texts
    assert tuple(tags.decoded(stated, may_be_wrong=True).values()) == texts
    western = {str(number): as_bytes(text, "cp1252") for number, text in enumerate(texts)}
    assert tuple(tags.decoded(western).values()) == texts


@pytest.mark.parametrize(
    ("encoding", "texts"),
    [
        ("cp932", ("夜に駆ける", "YOASOBI", "THE BOOK")),
        ("cp932", ("宇多田ヒカル", "First Love", "宇多田ヒカル")),
        ("cp949", ("강남스타일", "싸이", "싸이6甲")),
        ("cp949", ("좋은 날", "아이유", "Real")),
    ],
)
def test_japanese_is_told_from_korean(encoding: str, texts: tuple[str, ...]) -> None:
    fields = {str(number): as_bytes(text, encoding) for number, text in enumerate(texts)}
    assert tuple(tags.decoded(fields).values()) == texts


def test_only_a_tag_that_says_latin_1_throughout_is_doubted() -> None:
    latin, unicode = id3v2(TIT2="Größe".encode("latin-1")), b"TPE1" + struct.pack(">IH", 3, 0) + b"\x03\xc3\xb6"
    assert tags.says_latin_1(latin)
    assert not tags.says_latin_1(latin + unicode) and not tags.says_latin_1(b"")
    assert tags.says_latin_1(b"ID3\2\0\0\0\0\0\x0fTT2\0\0\4\0abc")
