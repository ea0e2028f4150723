"""The front ends of exported graphs: librosa's spectrograms of the same parameters, and the layout of an input."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest

from tonearm.models.exported.description import Description, LogMelFrontEnd, WaveformFrontEnd
from tonearm.models.exported.front_end import log_mel, mel_filters, network_inputs, padded, placed, waveform

RATE = 16000
CASES: dict[str, dict[str, Any]] = {
    "librosa's own": {},
    "musicnn": {"n_fft": 512, "hop_length": 256, "num_mel_bins": 96, "pad_mode": "reflect"},
    "VGGish": {
        "n_fft": 512, "hop_length": 160, "win_length": 400, "num_mel_bins": 64, "f_min": 125.0, "f_max": 7500.0,
        "mel_scale": "htk", "norm": None, "power": 1.0, "center": False,
    },
    "odd sizes": {"n_fft": 441, "hop_length": 100, "win_length": 300, "num_mel_bins": 13, "f_max": 6000.0},
    "hamming": {"window": "hamming", "mel_scale": "htk"},
    "blackman": {"window": "blackman", "norm": None, "power": 1.5},
}  # fmt: skip


def front_end(**changes: Any) -> LogMelFrontEnd:
    return LogMelFrontEnd(**{"sample_rate": RATE, "n_fft": 1024, "hop_length": 320, "num_mel_bins": 64, **changes})


def sound() -> Any:
    time_s = np.arange(RATE) / RATE
    noise = np.random.default_rng(0).standard_normal(RATE) * 0.05
    return (0.4 * np.sin(2 * np.pi * (200 + 3000 * time_s) * time_s) + noise).astype(np.float32)


def reference(window: Any, end: LogMelFrontEnd) -> Any:
    return librosa.feature.melspectrogram(
        y=window,
        sr=end.sample_rate,
        n_fft=end.n_fft,
        hop_length=end.hop_length,
        win_length=end.win_length,
        window=end.window,
        center=end.center,
        pad_mode=end.pad_mode,
        power=end.power,
        n_mels=end.num_mel_bins,
        fmin=end.f_min,
        fmax=end.f_max,
        htk=end.mel_scale == "htk",
        norm=end.norm,
    )


@pytest.mark.parametrize("case", CASES)
def test_spectrograms_are_librosas(case: str) -> None:
    end = front_end(log="none", **CASES[case])
    found, wanted = log_mel(sound(), end), reference(sound(), end)
    assert found.dtype == np.float32
    assert found.shape == wanted.shape == (end.num_mel_bins, end.num_frames(RATE))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6 * wanted.max())


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("norm", ["slaney", None])
def test_mel_bands_are_librosas(scale: Any, norm: Any) -> None:
    end = front_end(mel_scale=scale, norm=norm, f_min=30.0, f_max=7000.0)
    wanted = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=64, fmin=30.0, fmax=7000.0, htk=scale == "htk", norm=norm)
    np.testing.assert_allclose(mel_filters(end), wanted, atol=1e-6 * wanted.max())


def test_logarithms_offsets_and_scales() -> None:
    power = log_mel(sound(), front_end(log="none")).astype(np.float64)
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"log": "ln", "log_offset": 0.01, "log_floor": 0.0}, np.log(power + 0.01)),
        ({"log": "log10", "log_multiplier": 10_000.0, "log_offset": 1.0}, np.log10(1 + 10_000 * power)),
        ({"log": "db"}, librosa.power_to_db(power, top_db=None)),
        ({"log": "db", "top_db": 30.0}, librosa.power_to_db(power, top_db=30.0)),
        ({"log": "ln", "mean": -4.0, "std": 2.5}, (np.log(power) + 4.0) / 2.5),
    ]
    for parameters, wanted in cases:
        np.testing.assert_allclose(
            log_mel(sound(), front_end(**parameters)), wanted, atol=2e-3, err_msg=str(parameters)
        )


def test_silence_has_finite_features() -> None:
    for log in ("ln", "log10", "db"):
        assert np.isfinite(log_mel(np.zeros(RATE, np.float32), front_end(log=log))).all()


def test_the_fewest_samples_of_so_many_frames() -> None:
    for center in (True, False):
        end = front_end(center=center)
        samples = end.samples_of(96)
        assert end.num_frames(samples) == 96
        assert end.num_frames(samples - 1) == 95


def test_short_windows_are_followed_by_silence_or_themselves() -> None:
    windows = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    assert padded(windows, 5, "zeros").tolist() == [[1, 2, 3, 0, 0], [4, 5, 6, 0, 0]]
    assert padded(windows, 7, "repeat").tolist() == [[1, 2, 3, 1, 2, 3, 1], [4, 5, 6, 4, 5, 6, 4]]
    assert padded(windows, 2, "zeros").tolist() == [[1, 2], [4, 5]]


def test_waveforms_at_the_level_of_the_graph() -> None:
    windows = np.stack([sound(), sound() * np.float32(0.1) + np.float32(0.2)])
    assert waveform(windows, WaveformFrontEnd(RATE, scale=32768.0))[0, 7] == windows[0, 7] * 32768
    normal = waveform(windows, WaveformFrontEnd(RATE, normalize=True))
    np.testing.assert_allclose(normal.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(normal.std(axis=1), 1, atol=1e-3)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (("batch", "mel", "frames"), (3, 64, 50)),
        (("batch", "frames", "mel"), (3, 50, 64)),
        (("batch", "channel", "mel", "frames"), (3, 1, 64, 50)),
        (("batch", "frames", "mel", "channel"), (3, 50, 64, 1)),
        (("frames", "mel"), (50, 64)),
        (("mel", "frames", "batch"), (64, 50, 3)),
    ],
)
def test_each_layout_has_the_same_numbers_in_its_own_order(layout: tuple[str, ...], shape: tuple[int, ...]) -> None:
    end = front_end()
    description = Description("x.onnx", end, 1.0, ("x",), "sigmoid", layout=layout)
    windows = np.stack([sound(), sound()[::-1], sound() * np.float32(0.5)])
    if "batch" not in layout:
        windows = windows[:1]
    inputs = placed(network_inputs(windows, description, layout, 50), layout)
    assert inputs.shape == shape
    axes = [layout.index(axis) for axis in ("batch", "mel", "frames", "channel") if axis in layout]
    ordered = inputs.transpose(axes).reshape(len(windows), 64, 50)
    for window, found in zip(windows, ordered, strict=True):
        np.testing.assert_array_equal(found, log_mel(window, end)[:, :50])
