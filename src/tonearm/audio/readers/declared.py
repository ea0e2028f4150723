"""What the bytes of a file say before a reader opens it: where its tag ends, and how many bytes of audio there are.

Readers trust the size of the file where its header says another, and then half a file looks whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

# What writers put who cannot go back to the header: zero, the most that 32 bits hold, or sox's 0x7FFFF000 and the like.
UNKNOWN_FROM = 0x7FFF0000
MOST_SAMPLES = 2**48
VOC_AUDIO = (1, 2, 9)
# A file of millions of empty chunks is no file.
MOST_CHUNKS = 10_000
RIFF_START, W64_START, W64_HEADER = 12, 40, 24
WVE_HEADER, MPC2K_HEADER, MAT5_START = 32, 42, 128
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


# Of an ID3 tag, which may hold megabytes of pictures.
ID3_LOOKED_AT, ID3_HEADER = 2**16, 10
WAVES, TAG_CHUNKS = (b"RIFF", b"RIFX"), (b"LIST", b"id3 ", b"ID3 ")
# What FFmpeg does not look for behind an ID3 tag.
UNTAGGED = (*WAVES, b"OggS", b"FORM", b"wvpk", b"\x1aE\xdf\xa3")


class Chunk(NamedTuple):
    """A chunk of RIFF, RIFX, RF64 and the like; ``start`` is that of what it holds."""

    kind: bytes
    start: int
    size: int


@dataclasses.dataclass(frozen=True)
class EncodedFile:
    """A file's bytes, and where in them its tag and its audio are: looked up once, for every reader.

    Attributes:
        data: all of it.
        name: of the file, for the few formats that nothing else tells.
        body: without the ID3v2 tags that stand before it.
        audio: what readers are given: ``data``, or ``body`` where FFmpeg would not find it behind a tag.
        chunks: of a WAV's ``audio``; none of anything else.
    """

    data: bytes | memoryview
    name: str
    body: bytes | memoryview
    audio: bytes | memoryview
    chunks: tuple[Chunk, ...]

    @classmethod
    def of(cls, data: bytes | memoryview, name: str = "") -> EncodedFile:
        """Return the file whose bytes are ``data``."""
        body = without_id3(data)
        audio = body if bytes(body[:4]) in UNTAGGED else data
        return cls(data, name, body, audio, tuple(chunks(audio)) if bytes(audio[:4]) in WAVES else ())

    @property
    def is_wave(self) -> bool:
        """Whether it is a WAV."""
        return bytes(self.audio[:4]) in WAVES

    @property
    def id3(self) -> bytes | memoryview:
        """The beginning of the ID3v2 tag before the audio or in a chunk of it; nothing where there is none."""
        if bytes(self.data[:3]) == b"ID3":
            return self.data[: min(ID3_LOOKED_AT, len(self.data) - len(self.body))]
        for kind, start, size in self.chunks:
            if kind in TAG_CHUNKS[1:]:
                return self.audio[start : start + min(ID3_LOOKED_AT, size)]
        return b""


class Audio(NamedTuple):
    """Where in a file its header says that the audio is."""

    start: int
    num_bytes: int


def shown_share(data: bytes | memoryview) -> float:
    """Return which share of the bytes of audio that its header announces a file has; 1.0 where that is not known."""
    for magic, find in FINDERS.items():
        if bytes(data[: len(magic)]) == magic:
            audio = find(data)
            if audio is None:
                return 1.0
            there = max(0, len(data) - audio.start)
            return there / audio.num_bytes if 0 < there < audio.num_bytes else 1.0
    return 1.0


def without_id3(data: bytes | memoryview) -> bytes | memoryview:
    """Return the file without the ID3v2 tags that stand before it."""
    if bytes(data[:3]) != b"ID3":
        return data
    rest = memoryview(data)  # a slice of bytes is a copy
    while bytes(rest[:3]) == b"ID3" and len(rest) >= ID3_HEADER:
        size = 0
        for byte in bytes(rest[6:ID3_HEADER]):
            size = size << 7 | byte & 0x7F
        rest = rest[ID3_HEADER + size :]
    return rest


def chunks(data: bytes | memoryview) -> Iterator[Chunk]:
    """Yield each chunk of RIFF, RIFX, RF64 and the like."""
    order = "big" if bytes(data[:4]) in (b"RIFX", b"FORM") else "little"
    start = RIFF_START
    for _ in range(MOST_CHUNKS):
        if start + 8 > len(data):
            return
        kind = bytes(data[start : start + 4])
        size = int.from_bytes(data[start + 4 : start + 8], order)  # type: ignore[arg-type]
        yield Chunk(kind, start + 8, size)
        start += 8 + size + size % 2


def _riff(data: bytes | memoryview) -> Audio | None:
    if bytes(data[8:12]) == b"AVI ":
        return _whole(data)
    size_64 = 0
    for kind, start, size in chunks(data):
        if kind == b"ds64":
            size_64 = int.from_bytes(data[start + 8 : start + 16], "little")
        if kind in (b"data", b"BODY"):
            if size >= UNKNOWN_FROM and size_64:
                return Audio(start, size_64)
            return None if not size or size >= UNKNOWN_FROM else Audio(start, size)
    return None


def _whole(data: bytes | memoryview) -> Audio | None:
    order = "big" if bytes(data[:4]) == b"MMMD" else "little"
    size = int.from_bytes(data[4:8], order)  # type: ignore[arg-type]
    return None if not size or size >= UNKNOWN_FROM else Audio(8, size)


def _voc(data: bytes | memoryview) -> Audio | None:
    start = int.from_bytes(data[20:22], "little")
    while start + 4 <= len(data):
        kind, size = data[start], int.from_bytes(data[start + 1 : start + 4], "little")
        if kind in VOC_AUDIO:
            return Audio(start + 4, size)
        if not kind:
            return None
        start += 4 + size
    return None


def _w64(data: bytes | memoryview) -> Audio | None:
    start = W64_START
    while start + W64_HEADER <= len(data):
        size = int.from_bytes(data[start + 16 : start + 24], "little")
        if size < W64_HEADER:
            return None
        if bytes(data[start : start + 16]) == W64_DATA:
            return Audio(start + W64_HEADER, size - W64_HEADER) if size - W64_HEADER < 2**62 else None
        start += -(-size // 8) * 8
    return None


def _caf(data: bytes | memoryview) -> Audio | None:
    start = 8
    while start + 12 <= len(data):
        size = int.from_bytes(data[start + 4 : start + 12], "big", signed=True)
        if bytes(data[start : start + 4]) == b"data":
            return None if size <= 4 else Audio(start + 16, size - 4)
        if size < 0:
            return None
        start += 12 + size
    return None


def _au(data: bytes | memoryview) -> Audio | None:
    order = "big" if bytes(data[:1]) == b"." else "little"
    start, size = (int.from_bytes(data[at : at + 4], order) for at in (4, 8))  # type: ignore[arg-type]
    return None if not size or size >= UNKNOWN_FROM else Audio(start, size)


def _sox(data: bytes | memoryview) -> Audio | None:
    order = "little" if bytes(data[:1]) == b"." else "big"
    start = 4 + int.from_bytes(data[4:8], order)  # type: ignore[arg-type]
    samples = int.from_bytes(data[8:16], order)  # type: ignore[arg-type]
    return None if not 0 < samples < MOST_SAMPLES else Audio(start, 4 * samples)


def _wve(data: bytes | memoryview) -> Audio | None:
    return Audio(WVE_HEADER, int.from_bytes(data[18:22], "big"))


def _mpc2k(data: bytes | memoryview) -> Audio | None:
    name = bytes(data[2:19]).decode("latin-1")
    if len(name) < 17 or not (name.isascii() and name.isprintable()):
        return None
    channels = 1 + int.from_bytes(data[21:22], "little")
    return Audio(MPC2K_HEADER, 2 * channels * int.from_bytes(data[30:34], "little"))


def _mat5(data: bytes | memoryview) -> Audio | None:
    order = "big" if bytes(data[126:128]) == b"MI" else "little"
    start, size = MAT5_START, 0
    while start + 8 <= len(data):  # the audio is the last variable
        size = int.from_bytes(data[start + 4 : start + 8], order)  # type: ignore[arg-type]
        start += 8 + size
    return Audio(start - size, size)


Find = Callable[[bytes | memoryview], Audio | None]
FINDERS: dict[bytes, Find] = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM"), _riff),
    **dict.fromkeys((b".snd", b"dns."), _au),
    **dict.fromkeys((b".SoX", b"XoS."), _sox),
    b"riff": _w64,
    b"caff": _caf,
    b"MMMD": _whole,
    b"Creative Voice File": _voc,
    b"ALawSoundFile**": _wve,
    b"\x01\x04": _mpc2k,
    b"MATLAB 5": _mat5,
}
