"""Decoded samples of any layout and type as mono float32."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.audio.frame import format_dtypes
from av.audio.plane import AudioPlane
from numpy.typing import NDArray

MOST_ADDED = 64
# Floats from here on are damage, as infinities are: what is computed from them overflows.
LARGEST = np.float32(1e20)
# PyAV 18's AudioFrame.planes looks for a null pointer behind the last plane. FFmpeg has one for up to seven channels;
# from eight on, what follows is other memory, and a whole 7.1 file in AAC or Opus ends the process.
FIRST_COUNT_MISREAD = 8


def samples_of(frame: av.AudioFrame) -> tuple[NDArray[Any], str]:
    """Return a decoded frame's samples and FFmpeg's name of their format; of what numpy has no type for, as doubles."""
    name = frame.format.name
    if name.startswith("s64"):
        resampler = av.AudioResampler(format="dblp", layout=frame.layout, rate=frame.sample_rate)
        (frame,) = resampler.resample(frame)
        name = "dblp"
    if frame.format.is_planar and frame.layout.nb_channels >= FIRST_COUNT_MISREAD:
        return _planes(frame, name), name
    return frame.to_ndarray(), name


def _planes(frame: av.AudioFrame, name: str) -> NDArray[Any]:
    planes: list[AudioPlane] = [AudioPlane(frame, channel) for channel in range(frame.layout.nb_channels)]
    kind = np.dtype(format_dtypes[name])
    return np.stack([np.frombuffer(memoryview(plane), kind, count=frame.samples) for plane in planes])


def joined(frames: list[NDArray[Any]], shape: tuple[int, int, str]) -> NDArray[np.float32]:
    """Return decoded frames one after the other, as ``mix`` does.

    Args:
        frames: as PyAV gives them.
        shape: their sample rate, channels and FFmpeg's name of their format.
    """
    _, channels, sample_format = shape
    samples = np.concatenate(frames, axis=1) if len(frames) > 1 else frames[0]
    if not sample_format.endswith("p"):
        samples = samples.reshape(-1, channels).T
    return mix(samples)


def mix(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean of the channels as float32 in [-1, 1], finite.

    Args:
        samples: [channels, samples] of any PCM type.
    """
    # Channel by channel: numpy's sum over an axis of two is thirty times slower than one addition.
    kind = samples.dtype
    wide = np.float32 if kind.itemsize <= 2 or kind == np.float32 else np.float64
    if len(samples) <= MOST_ADDED:
        total = samples[0].astype(wide)
        for channel in samples[1:]:
            total += channel
    else:
        total = samples.sum(axis=0, dtype=wide)
    if kind == np.uint8:
        total -= wide(128 * len(samples))
    full_scale = {"u": 128, "i": 2 ** (8 * kind.itemsize - 1)}.get(kind.kind, 1)
    if (divisor := full_scale * len(samples)) != 1:
        total *= wide(1 / divisor)
    return _finite(total.astype(np.float32, copy=False))


def _finite(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    # Both are NaN where any sample is.
    if not len(waveform) or (waveform.max() < LARGEST and waveform.min() > -LARGEST):
        return waveform
    return np.where(np.abs(waveform) < LARGEST, waveform, np.float32(0))
