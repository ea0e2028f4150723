"""Each file is opened by the reader that knows it best."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from tonearm.audio.readers.container import open_source
from tonearm.audio.readers.ffmpeg import FFmpegSource
from tonearm.audio.readers.ogg import ChainedSource
from tonearm.audio.readers.sndfile import SndfileSource
from tonearm.audio.readers.source import Source
from tonearm.errors import DecodeError


def encoded(kind: str, subtype: str) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    soundfile.write(file, noise, 16000, format=kind, subtype=subtype)
    return file.getvalue()


WAV, VORBIS = encoded("WAV", "PCM_16"), encoded("OGG", "VORBIS")
ID3 = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)


@pytest.mark.parametrize(
    ("data", "reader", "codec"),
    [
        (WAV, SndfileSource, "pcm_s16le"),
        (ID3 + WAV, SndfileSource, "pcm_s16le"),
        (encoded("FLAC", "PCM_16"), FFmpegSource, "flac"),
        (VORBIS, FFmpegSource, "vorbis"),
        (ID3 + VORBIS, FFmpegSource, "vorbis"),
        (VORBIS + VORBIS, ChainedSource, "vorbis"),
        (encoded("W64", "PCM_16"), Source, "pcm_s16le"),
        (encoded("MAT5", "PCM_16"), SndfileSource, "pcm_s16le"),
    ],
)
def test_a_file_is_opened_by_the_reader_that_knows_it(data: bytes, reader: type[Source], codec: str) -> None:
    source = open_source(data)
    assert isinstance(source, reader) and source.codec == codec
    assert sum(len(block) for block, _ in source.blocks()) >= 16000


def test_a_cut_file_says_which_share_of_its_audio_is_there() -> None:
    assert open_source(WAV[:-16000]).shown_share == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("data", "code"), [(b"", "empty_file"), (b"no audio at all" * 99, "not_audio")])
def test_what_is_no_audio_has_its_code(data: bytes, code: str) -> None:
    with pytest.raises(DecodeError) as caught:
        open_source(data)
    assert caught.value.code == code
