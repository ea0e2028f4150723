"""How much of the audio that a header announces is there, for each kind of header."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from tonearm.audio.readers.declared import UNKNOWN_FROM, chunks, shown_share

NUM_SAMPLES = 8000


def encoded(kind: str, subtype: str = "PCM_16", endian: str = "FILE") -> bytes:
    """Return half a second of silence in a format of libsndfile's."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(NUM_SAMPLES, np.float32), 16000, format=kind, subtype=subtype, endian=endian)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "endian"),
    [
        *(("WAV", "FILE"), ("WAV", "BIG"), ("RF64", "FILE"), ("W64", "FILE"), ("CAF", "FILE")),
        *(("AU", "BIG"), ("AU", "LITTLE"), ("VOC", "FILE")),
    ],
)
def test_half_of_the_announced_audio_is_half(kind: str, endian: str) -> None:
    data = encoded(kind, endian=endian)
    assert shown_share(data) == 1.0
    assert shown_share(memoryview(data)[: len(data) - NUM_SAMPLES]) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("size", [0, UNKNOWN_FROM, 0x7FFFF000, 2**32 - 1])
def test_a_size_that_was_never_written_announces_nothing(size: int) -> None:
    data = bytearray(encoded("WAV"))
    place = data.index(b"data") + 4
    data[place : place + 4] = size.to_bytes(4, "little")
    assert shown_share(bytes(data)) == 1.0


def test_chunks_of_odd_sizes_are_padded() -> None:
    data = b"RIFF" + bytes(4) + b"WAVE" + b"odd " + b"\x03\0\0\0" + b"abc\0" + b"next" + b"\x02\0\0\0" + b"xy"
    assert [(kind, bytes(data[start : start + size])) for kind, start, size in chunks(data)] == [
        (b"odd ", b"abc"),
        (b"next", b"xy"),
    ]


@pytest.mark.parametrize("data", [b"", b"RIFF", b"caff", b"riff" + bytes(100), b"MATLAB 5", b"fLaC" + bytes(9)])
def test_what_has_no_such_header_is_taken_as_whole(data: bytes) -> None:
    assert shown_share(data) == 1.0
