"""From windows to the input of an exported graph: the waveform or a log-mel spectrogram, in numpy alone.

The spectrogram equals librosa's of the same parameters (tests/unit/models/exported/test_front_end.py). Letters in
shapes: B windows, S samples, T frames, F frequency bins, M mel bins.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tonearm.models.exported.description import Description, LogMelFrontEnd, Padding, WaveformFrontEnd

Floats = NDArray[np.float32]
# Slaney's scale: a mel is 200 / 3 Hz up to 1 kHz; above it 27 mel are a factor of 6.4.
SLANEY_HZ, SLANEY_EDGE_HZ, SLANEY_STEP = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0


def network_inputs(windows: Floats, description: Description, layout: Sequence[str], num_frames: int | None) -> Floats:
    """Return what the graph takes for windows [B, S], shorter ones too: float32 [B, ...], the rest as in ``layout``.

    Args:
        layout: of the graph's input; a batch axis that is not the first is put where it belongs by ``placed``.
        num_frames: of a spectrogram; further frames are cut off.
    """
    windows = padded(windows, description.window_samples, description.padding)
    front_end = description.front_end
    if isinstance(front_end, WaveformFrontEnd):
        made = waveform(windows, front_end)
        axes = ["samples"]
    else:
        made = np.stack([log_mel(window, front_end)[:, :num_frames] for window in windows])
        axes = ["mel", "frames"]
    order = [axis for axis in layout if axis in axes]
    made = made.transpose(0, *(1 + axes.index(axis) for axis in order))
    for place, axis in enumerate(axis for axis in layout if axis != "batch"):
        if axis == "channel":
            made = np.expand_dims(made, 1 + place)
    return np.ascontiguousarray(made, np.float32)


def placed(inputs: Floats, layout: Sequence[str]) -> Floats:
    """Return inputs [B, ...] with the batch axis where the graph has it, or without it where B is 1 and it has none."""
    if "batch" not in layout:
        return inputs[0]
    place = list(layout).index("batch")
    return inputs if place == 0 else np.ascontiguousarray(np.moveaxis(inputs, 0, place))


def noise(description: Description) -> Floats:
    """Return three windows of noise of different levels, float32 [3, S]."""
    # Always the same ones: the graph's scores of them are stored, and networks that are compiled later must agree.
    noise = np.random.default_rng(0).standard_normal((3, description.window_samples))
    return (noise * np.array([[0.3], [0.1], [0.01]])).astype(np.float32)


def padded(windows: Floats, num_samples: int, padding: Padding) -> Floats:
    """Return windows [B, S] of ``num_samples``: cut, or followed by silence or by themselves."""
    have = windows.shape[1]
    if have >= num_samples:
        return windows[:, :num_samples]
    if padding == "repeat":
        return windows[:, np.arange(num_samples) % have]
    return np.pad(windows, ((0, 0), (0, num_samples - have)))


def waveform(windows: Floats, front_end: WaveformFrontEnd) -> Floats:
    """Return windows [B, S] scaled as the graph takes them."""
    if front_end.normalize:
        windows = windows - windows.mean(axis=1, keepdims=True)
        windows = windows / np.sqrt(np.square(windows).mean(axis=1, keepdims=True) + np.float32(1e-7))
    return windows if front_end.scale == 1.0 else windows * np.float32(front_end.scale)


def log_mel(window: Floats, front_end: LogMelFrontEnd) -> Floats:
    """Return the log-mel spectrogram float32 [M, T] of one window [S]."""
    if front_end.center:
        window = np.pad(window, front_end.n_fft // 2, mode=front_end.pad_mode)
    frames = sliding_window_view(window, front_end.n_fft)[:: front_end.hop_length]  # [T, n_fft]
    spectrum = np.fft.rfft(frames * taper(front_end))  # complex64 [T, F]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    if front_end.power != 2.0:
        power = power ** np.float32(front_end.power / 2)
    mel = mel_filters(front_end) @ power.T
    return _logarithm(mel, front_end)


def _logarithm(mel: Floats, front_end: LogMelFrontEnd) -> Floats:
    if front_end.log != "none":
        mel = np.float32(front_end.log_multiplier) * mel + np.float32(front_end.log_offset)
        np.maximum(mel, np.float32(front_end.log_floor), out=mel)
        mel = np.log(mel) if front_end.log == "ln" else np.log10(mel)
        if front_end.log == "db":
            mel *= np.float32(10.0)
            if front_end.top_db is not None:
                mel = np.maximum(mel, mel.max() - np.float32(front_end.top_db))
    if (front_end.mean, front_end.std) != (0.0, 1.0):
        mel = (mel - np.float32(front_end.mean)) / np.float32(front_end.std)
    return mel


@functools.lru_cache(maxsize=16)
def taper(front_end: LogMelFrontEnd) -> Floats:
    """Return the periodic window float32 [n_fft], with zeros on both sides where it is shorter than a frame."""
    length = front_end.win_length or front_end.n_fft
    phase = 2 * np.pi * np.arange(length) / length
    shape = {
        "hann": 0.5 - 0.5 * np.cos(phase),
        "hamming": 0.54 - 0.46 * np.cos(phase),
        "blackman": 0.42 - 0.5 * np.cos(phase) + 0.08 * np.cos(2 * phase),
    }[front_end.window]
    before = (front_end.n_fft - length) // 2
    return np.pad(shape, (before, front_end.n_fft - length - before)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def mel_filters(front_end: LogMelFrontEnd) -> Floats:
    """Return the mel bands over spectra, float32 [M, F]: triangles on Slaney's or the HTK's scale."""
    to_mel, to_hz = (_htk, _htk_hz) if front_end.mel_scale == "htk" else (_slaney, _slaney_hz)
    highest = front_end.f_max or front_end.sample_rate / 2
    bins = np.fft.rfftfreq(front_end.n_fft, 1 / front_end.sample_rate)
    lowest_mel, highest_mel = (float(to_mel(np.array(edge))) for edge in (front_end.f_min, highest))
    edges = to_hz(np.linspace(lowest_mel, highest_mel, front_end.num_mel_bins + 2))
    widths, slopes = np.diff(edges), edges[:, None] - bins
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    if front_end.norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters.astype(np.float32)


def _htk(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2595.0 * np.log10(1.0 + frequency / 700.0)


def _htk_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _slaney(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    above = SLANEY_EDGE_HZ / SLANEY_HZ + np.log(np.maximum(frequency, 1e-10) / SLANEY_EDGE_HZ) / SLANEY_STEP
    return np.where(frequency >= SLANEY_EDGE_HZ, above, frequency / SLANEY_HZ)


def _slaney_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    edge = SLANEY_EDGE_HZ / SLANEY_HZ
    return np.where(mel >= edge, SLANEY_EDGE_HZ * np.exp(SLANEY_STEP * (mel - edge)), SLANEY_HZ * mel)
