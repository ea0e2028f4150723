"""Estimate a run's hours of audio, time and money from the listing, the sample and the measured rates.

Hours of audio are bytes times the seconds per byte of each extension: an MP3 has about five times as many seconds per
byte as a FLAC, so one rate for all would be wrong wherever the sample's mix differs from the library's.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tonearm.errors import DestinationError
from tonearm.planning.measure import Rates, scored_s
from tonearm.planning.sample import Listed, SampledTrack
from tonearm.runs.places import PLAN
from tonearm.sources.extensions import extension_of
from tonearm.storage import filesystems
from tonearm.tagging import FallbackPlan, HeadPlan

if TYPE_CHECKING:
    from tonearm.runs.destination import Destination

# Starting Ray, loading the models and the final audit; the same for one track as for a million.
START_S = 20.0
# Standard errors on either side of the mean that hold 95% of a normal distribution.
Z95 = 1.96


@dataclasses.dataclass(frozen=True)
class Machines:
    """The machines of the run: cores that decode, workers that score, and whether these share the same cores."""

    num_cpus: float
    num_gpus: int
    num_decoders: float
    num_scorers: int
    is_shared: bool


@dataclasses.dataclass(frozen=True)
class Prices:
    """Money per hour, in any currency."""

    cpu_hour: float = 0.0
    gpu_hour: float = 0.0


@dataclasses.dataclass(frozen=True)
class FallbackEstimate:
    """The windows that a head would send on to its fallback.

    ``share_sent`` is ``measured`` on the sample, or ``distilled``: what the student's distillation has found; None
    where neither says it, as ``num_windows`` is.
    """

    model: str
    threshold: float
    share_sent: float | None
    num_windows: int | None
    origin: str = ""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        audio_s, audio_low_s, audio_high_s: with a 95% interval from the sample.
        formats: share of the sampled tracks by codec.
        errors: number of sampled tracks that cannot be read or decoded, by error code; ``failing_low`` and
            ``failing_high`` are the 95% interval (Wilson) of their share.
        decode_core_s, forward_worker_s: total work, in seconds of one core and of one scoring worker.
        wall_s: duration of the run on ``machines``; ``bottleneck`` is the slower stage.
        cost: of all machines for that long, or None without prices.
        fallbacks: by head that has one.
    """

    num_tracks: int
    num_bytes: int
    num_done: int
    num_sampled: int
    audio_s: float
    audio_low_s: float
    audio_high_s: float
    formats: dict[str, float]
    errors: dict[str, int]
    failing_low: float
    failing_high: float
    num_windows: dict[str, int]
    rates: Rates
    machines: Machines
    decode_core_s: float
    forward_worker_s: float
    wall_s: float
    bottleneck: str
    cost: float | None
    fallbacks: dict[str, FallbackEstimate] = dataclasses.field(default_factory=dict)

    @property
    def gpu_hours(self) -> float:
        return self.machines.num_gpus * self.wall_s / 3600

    @property
    def cpu_hours(self) -> float:
        return self.machines.num_cpus * self.wall_s / 3600

    def to_json(self) -> str:
        """Return the estimate as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def estimate(
    listed: Listed,
    probed: Sequence[SampledTrack],
    decoded: Sequence[SampledTrack],
    plans: Mapping[str, HeadPlan],
    rates: Rates,
    machines: Machines,
    prices: Prices,
) -> Estimate:
    """Return what a run over ``listed`` would take.

    Args:
        probed: the sample, described by its headers.
        decoded: some of the same tracks after decoding; where both exist, decoding counts.
    """
    # A header may promise what the decoder cannot give, so a decoded track replaces its probed one.
    final = {track.ref.track_key: track for track in [*probed, *decoded]}
    good = [track for track in final.values() if track.info is not None]
    errors = Counter(track.error_code or "" for track in final.values() if track.info is None)
    audio_s, spread_s = _estimate_audio(listed, list(final.values()))
    low, high = _wilson_interval(len(final) - len(good), len(final))
    share = len(good) / len(final) if final else 1.0
    durations = [track.info.duration_s for track in good if track.info is not None]
    scored = sum(scored_s(plans, duration_s) for duration_s in durations) / sum(durations) if durations else 1.0
    num_windows = {}
    for head, plan in plans.items():
        counts = [len(plan.windows.starts(int(duration_s * plan.windows.sample_rate))) for duration_s in durations]
        num_windows[head] = round(sum(counts) / len(counts) * share * listed.num_tracks) if counts else 0
    decode_s, forward_s = audio_s / rates.decode, audio_s * scored / rates.forward
    stages = {"decoding": decode_s / machines.num_decoders, "scoring": forward_s / machines.num_scorers}
    # On shared cores the stages take turns; on separate ones they overlap, and the slower decides.
    wall_s = START_S + (sum(stages.values()) if machines.is_shared else max(stages.values()))
    hours = wall_s / 3600
    cost = hours * (machines.num_cpus * prices.cpu_hour + machines.num_gpus * prices.gpu_hour)
    formats = Counter(track.info.codec for track in good if track.info is not None)
    return Estimate(
        num_tracks=listed.num_tracks,
        num_bytes=listed.num_bytes,
        num_done=listed.num_done,
        num_sampled=len(final),
        audio_s=audio_s,
        audio_low_s=max(0.0, audio_s - Z95 * spread_s),
        audio_high_s=audio_s + Z95 * spread_s,
        formats={codec: count / len(good) for codec, count in formats.most_common()},
        errors=dict(errors.most_common()),
        failing_low=low,
        failing_high=high,
        num_windows=num_windows,
        rates=rates,
        machines=machines,
        decode_core_s=decode_s,
        forward_worker_s=forward_s,
        wall_s=wall_s,
        bottleneck=max(stages, key=lambda stage: stages[stage]),
        cost=cost if prices.cpu_hour or prices.gpu_hour else None,
        fallbacks={
            head: _fallback_estimate(plan.fallback, rates.share_sent.get(head), num_windows[head])
            for head, plan in plans.items()
            if plan.fallback is not None
        },
    )


class _WithError(NamedTuple):
    """An estimated value and its standard error."""

    value: float
    standard_error: float


def _fallback_estimate(plan: FallbackPlan, measured: float | None, num_windows: int) -> FallbackEstimate:
    share, origin = (plan.share, "distilled") if measured is None else (measured, "measured")
    num_sent = None if share is None else round(share * num_windows)
    name = plan.model.checkpoint.name
    return FallbackEstimate(name, plan.threshold, share, num_sent, "" if share is None else origin)


def _estimate_audio(listed: Listed, tracks: Sequence[SampledTrack]) -> _WithError:
    """Return the total seconds of audio: the sum of a ratio estimate per extension."""
    audio_s = variance = 0.0
    overall_ratio = _seconds_per_byte([track for track in tracks if track.ref.size_bytes]) or _WithError(0.0, 0.0)
    mean_duration_s = (
        float(np.mean([track.info.duration_s if track.info else 0.0 for track in tracks])) if tracks else 0.0
    )
    for extension, (num_tracks, num_bytes) in listed.by_extension.items():
        of_extension = [track for track in tracks if extension_of(track.ref.uri) == extension and track.ref.size_bytes]
        # Sources that do not give sizes: the mean duration of the sample is all there is to go by.
        if not num_bytes:
            audio_s += num_tracks * mean_duration_s
            continue
        ratio = _seconds_per_byte(of_extension) or overall_ratio
        audio_s += ratio.value * num_bytes
        # Finite population correction: once every track is in the sample, nothing is left to err about.
        variance += (ratio.standard_error * num_bytes) ** 2 * max(0.0, 1 - len(of_extension) / num_tracks)
    return _WithError(audio_s, math.sqrt(variance))


def _seconds_per_byte(tracks: Iterable[SampledTrack]) -> _WithError | None:
    """Return seconds of audio per byte (Cochran, Sampling Techniques, 1977, section 6.4).

    A track that cannot be decoded counts as 0 s: its bytes are in the listing, but give no audio.
    """
    durations_and_sizes = [
        (track.info.duration_s if track.info else 0.0, track.ref.size_bytes or 0) for track in tracks
    ]
    if not durations_and_sizes:
        return None
    seconds, sizes = np.array(durations_and_sizes, np.float64).T
    ratio = seconds.sum() / sizes.sum()
    # One track tells nothing about the spread; assume an error as large as the ratio itself.
    if len(durations_and_sizes) < 2:
        return _WithError(float(ratio), float(ratio))
    spread = np.sqrt(((seconds - ratio * sizes) ** 2).sum() / (len(durations_and_sizes) - 1))
    return _WithError(float(ratio), float(spread / (sizes.mean() * math.sqrt(len(durations_and_sizes)))))


def _wilson_interval(num: int, of: int) -> tuple[float, float]:
    """Return the 95% interval of the share ``num / of`` (Wilson 1927), which stays within 0 and 1 for small samples."""
    if not of:
        return 0.0, 1.0
    share, z2 = num / of, Z95**2
    center, half = share + z2 / (2 * of), Z95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, (center - half) / (1 + z2 / of)), min(1.0, (center + half) / (1 + z2 / of))


def _estimate_url(destination: Destination) -> str:
    return destination.checkpoint(PLAN)


def write_estimate(destination: Destination, plan: Estimate) -> None:
    """Store the estimate at the destination; ``tonearm tag`` compares the finished run with it.

    Raises:
        DestinationError: the destination is full, read-only or refuses access.
    """
    filesystems.write_text(_estimate_url(destination), plan.to_json())


def read_estimate(destination: Destination) -> dict[str, Any] | None:
    """Return the values of the stored estimate, or None."""
    try:
        with filesystems.reading(_estimate_url(destination)):
            values: dict[str, Any] = json.loads(filesystems.read_bytes(_estimate_url(destination)))
    # Only a comparison in the output depends on it, so a run must not fail for want of it.
    except (DestinationError, ValueError):
        return None
    return values if {"audio_s", "wall_s", "num_tracks"} <= set(values) else None
