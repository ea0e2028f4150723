"""Opening encoded audio in memory with the reader that knows it best.

FFmpeg (through PyAV) reads everything; libsndfile reads plain WAV, which it does several times faster, and the few
kinds of file that FFmpeg reads otherwise or not at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from tonearm.audio.readers import declared, ogg, tags
from tonearm.audio.readers.ffmpeg import FFmpegSource, container_of, without_id3
from tonearm.audio.readers.sndfile import SndfileSource
from tonearm.audio.readers.source import Source as Source
from tonearm.errors import DecodeError

# Of an ID3 tag, which may hold megabytes of pictures.
ID3_LOOKED_AT = 2**16
WAVES, TAG_CHUNKS = (b"RIFF", b"RIFX"), (b"LIST", b"id3 ", b"ID3 ")
UNTAGGED = (*WAVES, ogg.MAGIC, b"FORM", b"wvpk", b"\x1aE\xdf\xa3")


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself, and how long it truly is."""

    duration_s: float
    sample_rate: int
    channels: int
    codec: str
    title: str | None = None
    artist: str | None = None
    album: str | None = None


def open_source(data: bytes | memoryview, name: str = "") -> Source:
    """Return ``data`` opened by the reader that knows it best.

    Args:
        name: of the file, for the few formats that nothing else tells.

    Raises:
        DecodeError: empty_file, not_audio or no_audio.
    """
    if not len(data):
        raise DecodeError("got a file of 0 bytes, expected encoded audio", code="empty_file")
    audio = _after_id3(data)
    source = _opened(audio, data, name)
    source.shown_share = declared.shown_share(audio)
    source.says_latin_1 = tags.says_latin_1(_id3(data, audio))
    return source


def _opened(audio: bytes | memoryview, data: bytes | memoryview, name: str) -> Source:
    source = SndfileSource.better(audio, _wave_metadata(data, audio))
    if source is not None:
        return source
    if len(starts := ogg.links(audio)) > 1:
        return ogg.ChainedSource.of(audio, starts)
    try:
        return FFmpegSource.open(data if bytes(audio[:4]) in WAVES else audio, name)
    except DecodeError as error:
        other = SndfileSource.alone(audio) if error.code == "not_audio" else None
        if other is None:
            raise
        return other


def _after_id3(data: bytes | memoryview) -> bytes | memoryview:
    """Return what FFmpeg does not look for behind an ID3 tag without that tag, and anything else as it is."""
    rest = without_id3(data)
    return rest if bytes(rest[:4]) in UNTAGGED else data


def _id3(data: bytes | memoryview, audio: bytes | memoryview) -> bytes | memoryview:
    """Return the beginning of the ID3v2 tag before the audio or in a chunk of it; nothing where there is none."""
    if bytes(data[:3]) == b"ID3":
        return data[: min(ID3_LOOKED_AT, len(data) - len(without_id3(data)))]
    if bytes(audio[:4]) in WAVES:
        for kind, start, size in declared.chunks(audio):
            if kind in TAG_CHUNKS[1:]:
                return audio[start : start + min(ID3_LOOKED_AT, size)]
    return b""


def _wave_metadata(data: bytes | memoryview, audio: bytes | memoryview) -> Mapping[str, str]:
    """Return what a WAV's INFO and ID3 chunks say, as FFmpeg reads them; libsndfile knows only the first."""
    if bytes(audio[:4]) not in WAVES:
        return {}
    described = [
        bytes(audio[start - 8 : start + size + size % 2])
        for kind, start, size in declared.chunks(audio)
        if kind in (b"fmt ", *TAG_CHUNKS)
    ]
    tag = bytes(data[: len(data) - len(audio)])
    if not tag and not any(chunk.startswith(TAG_CHUNKS) for chunk in described):
        return {}
    # Without its audio, which FFmpeg would look through for what it is.
    body = b"".join([bytes(audio[8:12]), *described, b"data", bytes(4)])
    order: Literal["big", "little"] = "big" if bytes(audio[:4]) == b"RIFX" else "little"
    try:
        with container_of(tag + bytes(audio[:4]) + len(body).to_bytes(4, order) + body) as container:
            return dict(container.metadata)
    except DecodeError:
        return {}
