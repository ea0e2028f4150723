"""libsndfile reads plain WAV and what FFmpeg does not know, and leaves everything else to FFmpeg."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from tonearm.audio.readers.sndfile import SndfileSource

SAMPLES = np.random.default_rng(0).integers(-(2**15), 2**15, (50_000, 2)).astype(np.int16)


def encoded(kind: str, subtype: str, endian: str = "FILE") -> bytes:
    """Return ten thousand of the samples per second in a format of libsndfile's."""
    file = io.BytesIO()
    soundfile.write(file, SAMPLES, 10_000, format=kind, subtype=subtype, endian=endian)
    return file.getvalue()


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_plain_wav_is_read_sample_by_sample(endian: str) -> None:
    source = SndfileSource.better(encoded("WAV", "PCM_16", endian), {})
    assert source is not None
    assert (source.codec, source.sample_rate, source.channels, source.declared_s) == ("pcm_s16le", 10_000, 2, 5.0)
    waveform = np.concatenate([block for block, _ in source.blocks()])
    np.testing.assert_allclose(waveform, SAMPLES.mean(axis=1) / 2**15, atol=1e-6)


def test_parts_are_those_of_the_whole() -> None:
    source = SndfileSource.better(encoded("WAV", "PCM_16"), {})
    assert source is not None
    whole = np.concatenate([block for block, _ in source.blocks()])
    with source.in_parts() as parts:
        assert parts is not None and parts.num_samples == len(whole)
        waveforms = parts.read([(10, 20), (len(whole) - 5, len(whole))])
    assert waveforms is not None
    np.testing.assert_array_equal(np.concatenate(waveforms), np.concatenate([whole[10:20], whole[-5:]]))


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "ULAW"), ("FLAC", "PCM_16"), ("AU", "PCM_16")])
def test_what_ffmpeg_reads_well_is_left_to_it(kind: str, subtype: str) -> None:
    data = encoded(kind, subtype)
    assert SndfileSource.better(data, {}) is None
    assert SndfileSource.alone(data) is None


@pytest.mark.parametrize("kind", ["W64", "MAT5", "PAF", "HTK"])
def test_what_ffmpeg_does_not_know_is_read(kind: str) -> None:
    data = encoded(kind, "PCM_16") if kind != "HTK" else encoded_mono("HTK")
    source = SndfileSource.alone(data)
    assert source is not None
    assert sum(len(block) for block, _ in source.blocks()) == len(SAMPLES)


def encoded_mono(kind: str) -> bytes:
    """Return the first channel alone."""
    file = io.BytesIO()
    soundfile.write(file, SAMPLES[:, 0], 10_000, format=kind, subtype="PCM_16")
    return file.getvalue()


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF" + bytes(200), b"riff" + bytes(200)])
def test_what_libsndfile_cannot_open_is_no_error(data: bytes) -> None:
    assert SndfileSource.better(data, {}) is None
    assert SndfileSource.alone(data) is None
