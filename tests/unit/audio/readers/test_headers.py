"""A header is read from the first and last bytes of a file, without its audio."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from tonearm.audio.readers.headers import HEAD_BYTES, TAIL_BYTES, read_header
from tonearm.errors import DecodeError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (30 * 44100, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "subtype", "codec"),
    [("FLAC", "PCM_16", "flac"), ("OGG", "VORBIS", "vorbis"), ("WAV", "PCM_16", "pcm_s16le")],
)
def test_the_ends_of_a_file_tell_what_it_is_and_how_long(kind: str, subtype: str, codec: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, NOISE, 44100, format=kind, subtype=subtype)
    data = bytearray(file.getvalue())
    assert len(data) > HEAD_BYTES + TAIL_BYTES
    data[HEAD_BYTES : len(data) - TAIL_BYTES] = bytes(len(data) - HEAD_BYTES - TAIL_BYTES)
    info = read_header(io.BytesIO(data))
    assert (info.codec, info.sample_rate, info.channels) == (codec, 44100, 2)
    assert info.duration_s == pytest.approx(30.0, abs=0.01)


@pytest.mark.parametrize("data", [b"", b"<html>404</html>" * 100])
def test_what_is_no_audio_is_named(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        read_header(io.BytesIO(data))
    assert caught.value.code == "not_audio"
