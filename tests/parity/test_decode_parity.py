"""Decoding equals ``librosa.load`` on WAV and FLAC, and FFmpeg's own decode elsewhere."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from transformers import ASTFeatureExtractor

from tonearm.audio import streams
from tonearm.audio.decode import DecodedTrack, DecodeRequest, decode, decode_waveform
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.distributed.tagging import blocks
from tonearm.settings import DecodeSettings
from tonearm.sources.listing import make_ref

RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000]
WAV = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]


def noise(sample_rate: int, channels: int, seconds: float = 3.37) -> np.ndarray:
    rng = np.random.default_rng([sample_rate, channels])
    return rng.normal(0, 0.2, (int(sample_rate * seconds) + 3, channels)).clip(-1, 1)


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_equals_librosa(sample_rate: int, channels: int, tmp_path: Path) -> None:
    samples = noise(sample_rate, channels)
    for extension, subtypes in (("wav", WAV), ("flac", ["PCM_16", "PCM_24"])):
        for subtype in subtypes:
            path = tmp_path / f"x.{extension}"
            soundfile.write(path, samples, sample_rate, subtype=subtype)
            expected, _ = librosa.load(path, sr=16000)
            got, info = decode_waveform(path.read_bytes(), 16000)
            assert got.dtype == np.float32
            assert got.shape == expected.shape, (extension, subtype)
            np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0, err_msg=f"{extension} {subtype}")
            assert (info.sample_rate, info.channels) == (sample_rate, channels)
            assert info.duration_s == pytest.approx(len(samples) / sample_rate)


def test_windows_are_the_same_however_much_is_kept(tmp_path: Path) -> None:
    """The whole track, a sample of it, and one that outgrew its budget and was decoded twice hold the same audio."""
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(44100, 2, 61.7), 44100)
    data = path.read_bytes()
    whole, _ = decode_waveform(data, 16000)
    for max_windows, max_scored_s in ((None, 3600.0), (3, 3600.0), (None, 25.0), (2, 25.0)):
        plans = (WindowPlan(16000, 80000, 80000, max_windows, 400), WindowPlan(16000, 32000, 32000, max_windows, 400))
        request = DecodeRequest(plans, max_scored_s)
        stream = decode(data, request).stream(16000)
        assert stream.num_samples == len(whole)
        for plan in request.limited():
            starts = plan.starts(stream.num_samples)
            assert len(starts) * plan.window_samples <= max(max_scored_s * 16000, plan.window_samples)
            for start in starts:
                expected = whole[start : start + plan.window_samples]
                np.testing.assert_allclose(stream.window(int(start), plan.window_samples), expected, atol=2.0**-15)
    with pytest.raises(IndexError, match="were not kept"):
        stream.window(40000, 80000)


def test_two_rates_come_from_one_decode(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(44100, 1), 44100)
    plans = tuple(WindowPlan(rate, rate, rate, None, 10) for rate in (8000, 16000, 44100))
    track = decode(path.read_bytes(), DecodeRequest(plans, 60))
    for rate in (8000, 16000, 44100):
        expected, _ = librosa.load(path, sr=rate)
        assert track.stream(rate).num_samples == len(expected)
        np.testing.assert_allclose(track.stream(rate).window(0, rate), expected[:rate], atol=2.0**-15)


def test_nothing_is_added_above_what_a_low_rate_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """int16's rounding would be all that there is between 4 and 8 kHz, and a logarithm makes much of it."""
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(8000, 2, 3.0), 8000)
    expected, _ = librosa.load(path, sr=16000)
    request = DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 60.0)
    ref = make_ref("x.wav")
    with DecodeSandbox(DecodeSettings()) as sandbox:
        block = blocks.encode_tracks([(ref, sandbox.decode(path.read_bytes(), request))])
    track = blocks.read_outcome(block, 0)
    assert isinstance(track, DecodedTrack)
    np.testing.assert_allclose(track.stream(16000).window(0, 16000), expected[:16000], atol=1e-6)
    bands = kaldi_features(track.stream(16000).window(0, 16000)), kaldi_features(expected[:16000])
    np.testing.assert_allclose(*bands, atol=1e-3)
    # Of a track of hours twice the memory is not taken for it.
    monkeypatch.setattr(streams, "MOST_FLOATS", 47_999)
    assert decode(path.read_bytes(), request).streams[0].pcm.dtype == np.int16


def kaldi_features(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    features = ASTFeatureExtractor()(waveform, sampling_rate=16000, return_tensors="np")["input_values"]
    return np.asarray(features, np.float32)


def test_real_recordings_equal_librosa(shared_audio: Path) -> None:
    paths = sorted((shared_audio / "librosa" / "audio").glob("*.ogg"))[:6]
    for path in paths:
        expected, _ = librosa.load(path, sr=16000)
        got, _ = decode_waveform(path.read_bytes(), 16000)
        # Another Vorbis decoder than libsndfile's, so equal as two decoders are, and to the sample in length.
        assert abs(len(got) - len(expected)) <= 1
        np.testing.assert_allclose(got[: len(expected)], expected[: len(got)], atol=2e-3)


@pytest.mark.parametrize("native", [22050, 44100, 48000, 96000])
def test_the_rate_is_changed_as_well_as_soxr_hq_changes_it(native: int, tmp_path: Path) -> None:
    """No more ripple where a model hears, no more alias from where it does not."""
    import soxr

    def tone(frequency: float) -> NDArray[np.float32]:
        return (0.5 * np.sin(2 * np.pi * frequency * np.arange(4 * native) / native)).astype(np.float32)

    def level_db(waveform: NDArray[np.float32]) -> float:
        middle = waveform[len(waveform) // 4 : -len(waveform) // 4]
        return float(20 * np.log10(np.sqrt(np.mean(np.square(middle, dtype=np.float64))) / (0.5 / np.sqrt(2)) + 1e-12))

    def decoded(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        soundfile.write(tmp_path / "tone.wav", waveform, native, subtype="FLOAT")
        return decode_waveform((tmp_path / "tone.wav").read_bytes(), 16000)[0]

    passband = [tone(frequency) for frequency in np.geomspace(50, 7200, 12)]
    ripple = max(abs(level_db(decoded(each))) for each in passband)
    reference = max(abs(level_db(soxr.resample(each, native, 16000, quality="HQ"))) for each in passband)
    assert ripple <= reference + 1e-3
    assert ripple < 0.01
    stopband = [tone(frequency) for frequency in np.linspace(8800, native / 2 - 200, 10)]
    alias = max(level_db(decoded(each)) for each in stopband)
    reference = max(level_db(soxr.resample(each, native, 16000, quality="HQ")) for each in stopband)
    assert alias <= reference + 1.0
    assert alias < -100
