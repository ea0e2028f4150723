"""Decoded samples of any layout and type as mono float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
from av.audio.frame import format_dtypes
from av.audio.plane import AudioPlane
from numpy.typing import NDArray

# [channels, samples], or each channel by itself.
Channels: TypeAlias = NDArray[Any] | list[NDArray[Any]]

MOST_ADDED = 64
# Floats from here on are damage, as infinities are: what is computed from them overflows.
LARGEST = np.float32(1e20)
# PyAV 18's AudioFrame.planes looks for a null pointer behind the last plane. FFmpeg has one for up to seven channels;
# from eight on, what follows is other memory, and a whole 7.1 file in AAC or Opus ends the process.
FIRST_COUNT_MISREAD = 8


class FrameForm(NamedTuple):
    """What frames have to share to be joined; ``sample_format`` is FFmpeg's name, such as ``fltp``."""

    sample_rate: int
    channels: int
    sample_format: str


class FrameSamples(NamedTuple):
    """A frame's samples: a view of each channel if planar, else as PyAV gives them, [1, samples * channels]."""

    samples: Channels
    form: FrameForm


def samples_of(frame: av.AudioFrame) -> FrameSamples:
    """Return a decoded frame's samples; those that numpy has no type for as doubles."""
    name = frame.format.name
    if name.startswith("s64"):
        resampler = av.AudioResampler(format="dblp", layout=frame.layout, rate=frame.sample_rate)
        (frame,) = resampler.resample(frame)
        name = "dblp"
    channels = frame.layout.nb_channels
    form = FrameForm(frame.sample_rate, channels, name)
    if not name.endswith("p"):
        return FrameSamples(frame.to_ndarray(), form)
    planes = [AudioPlane(frame, channel) for channel in range(channels)] if channels >= FIRST_COUNT_MISREAD else None
    # Not to_ndarray: its copy of 9,000 frames is a fifth of the time that four minutes of MP3 take.
    kind, count = format_dtypes[name], frame.samples
    return FrameSamples([np.frombuffer(memoryview(plane), kind, count) for plane in planes or frame.planes], form)


def joined(frames: Sequence[Channels], form: FrameForm) -> NDArray[np.float32]:
    """Return decoded frames one after the other, as ``mix`` does.

    Args:
        frames: as ``samples_of`` gives them, all of one form.
    """
    if form.sample_format.endswith("p"):
        return mix([_concatenated([frame[channel] for frame in frames]) for channel in range(form.channels)])
    # A packed frame is one row.
    return mix(_concatenated([frame[0] for frame in frames]).reshape(-1, form.channels).T)


def _concatenated(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def mix(samples: Channels) -> NDArray[np.float32]:
    """Return the mean of the channels as float32 in [-1, 1], finite.

    Args:
        samples: [channels, samples] of any PCM type, or each channel by itself.
    """
    # Channel by channel: numpy's sum over an axis of two is thirty times slower than one addition.
    kind = samples[0].dtype
    wide = np.float32 if kind.itemsize <= 2 or kind == np.float32 else np.float64
    total: NDArray[Any]
    if len(samples) <= MOST_ADDED:
        total = samples[0].astype(wide)
        for channel in samples[1:]:
            total += channel
    else:
        total = np.asarray(samples).sum(axis=0, dtype=wide)
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
