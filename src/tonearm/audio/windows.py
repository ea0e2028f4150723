"""How a track is cut into the windows a head scores, and how its audio is kept as int16.

>>> WindowPlan(sample_rate=10, window_samples=30, hop_samples=30, max_windows=None, min_samples=1).starts(100)
array([ 0, 30, 60, 70])
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FULL_SCALE = 32768


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """How one head cuts a track.

    Attributes:
        sample_rate: the head's rate in Hz; all counts of samples are at this rate.
        window_samples: samples the head scores at once.
        hop_samples: distance of two windows' starts; equal to ``window_samples`` unless they overlap.
        max_windows: at most this many, taken evenly over the track; None for all.
        min_samples: a track shorter than this cannot be scored (the model's receptive field).
    """

    sample_rate: int
    window_samples: int
    hop_samples: int
    max_windows: int | None
    min_samples: int

    @property
    def window_s(self) -> float:
        """Seconds of a window."""
        return self.window_samples / self.sample_rate

    def limited(self, max_windows: int | None) -> WindowPlan:
        """Return the plan with at most ``max_windows`` windows, or its own limit where that is lower."""
        return dataclasses.replace(self, max_windows=lower_limit(max_windows, self.max_windows))

    def within(self, max_scored_s: float) -> WindowPlan:
        """Return the plan with no more windows than fit into ``max_scored_s`` seconds, but one."""
        beyond_first = int(max_scored_s * self.sample_rate) - self.window_samples
        return self.limited(max(1, beyond_first // self.hop_samples + 1))

    def starts(self, num_samples: int) -> NDArray[np.int64]:
        """Return where the windows start, int64 [windows], ascending.

        The last window is shifted back to end with the track, so no window is padded when the track is long enough; a
        shorter track has one window at 0. Past ``max_windows`` the first is at the start, the last at the end, and the
        others evenly between.
        """
        last = num_samples - self.window_samples
        if last <= 0:
            return np.zeros(1, np.int64)
        count = math.ceil(last / self.hop_samples) + 1
        if self.max_windows is None or count <= self.max_windows:
            starts = np.arange(count, dtype=np.int64) * self.hop_samples
            starts[-1] = last
            return starts
        if self.max_windows == 1:
            return np.array([last // 2], np.int64)
        return np.round(np.linspace(0, last, self.max_windows)).astype(np.int64)

    def starts_in(self, lengths: Mapping[int, int]) -> NDArray[np.int64]:
        """Return ``starts`` of a track.

        Args:
            lengths: its samples by sample rate.
        """
        return self.starts(lengths[self.sample_rate])


@dataclasses.dataclass(frozen=True)
class FollowingPlan(WindowPlan):
    """Windows of the same stretches of a track as those of another plan, at a sample rate of its own.

    A track's two lengths are each rounded up to whole samples, so a grid of its own could have a window more or less.

    Attributes:
        leader: the other plan; a track must be kept at its sample rate too.
    """

    leader: WindowPlan

    def limited(self, max_windows: int | None) -> FollowingPlan:
        """Return the plan with at most ``max_windows`` windows, as its leader then has them."""
        return self._after(self.leader.limited(max_windows))

    def within(self, max_scored_s: float) -> FollowingPlan:
        """Return the plan with no more windows than its leader has within ``max_scored_s`` seconds."""
        return self._after(self.leader.within(max_scored_s))

    def starts_in(self, lengths: Mapping[int, int]) -> NDArray[np.int64]:
        """Return where the windows start, one for each of the leader's; see ``WindowPlan.starts_in``."""
        starts = np.round(self.leader.starts_in(lengths) * (self.sample_rate / self.leader.sample_rate))
        last = max(0, lengths[self.sample_rate] - self.window_samples)
        return np.minimum(starts, last).astype(np.int64)

    def _after(self, leader: WindowPlan) -> FollowingPlan:
        return dataclasses.replace(self, leader=leader, max_windows=leader.max_windows)


def plan_of(values: Mapping[str, Any]) -> WindowPlan:
    """Return the plan that ``dataclasses.asdict`` has made ``values`` of."""
    if "leader" in values:
        return FollowingPlan(**{**values, "leader": WindowPlan(**values["leader"])})
    return WindowPlan(**values)


def lower_limit(*limits: int | None) -> int | None:
    """Return the lowest of some limits, of which None is none."""
    return min((limit for limit in limits if limit is not None), default=None)


def quantization_scale(peak: float) -> float:
    """Return the scale at which audio whose largest magnitude is ``peak`` is kept as int16.

    It is a power of two over 32768, so that audio which was 16-bit PCM at this rate stays exact, and the peak lies in
    the upper half of the range, so that a quiet track keeps 15 bits.
    """
    if not peak or not math.isfinite(peak):
        return 1.0 / FULL_SCALE
    mantissa, exponent = math.frexp(peak)
    # frexp gives [0.5, 1), so a peak of exactly a power of two would take one bit more than it needs.
    return math.ldexp(1.0, exponent - (mantissa == 0.5)) / FULL_SCALE


def quantize_block(waveform: NDArray[np.float32], scale: float) -> NDArray[np.int16]:
    """Return one block of a track as int16 at the track's ``scale``."""
    levels = np.rint(waveform * np.float32(1.0 / scale))
    return np.clip(levels, -FULL_SCALE, FULL_SCALE - 1, out=levels).astype(np.int16)


def dequantize(pcm: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Return what is kept of audio, int16 or float32 [samples], as float32 in [-1, 1]."""
    return pcm.astype(np.float32) * np.float32(scale)
