"""From the listing, the sample and the rates to hours, time and money.

Hours are estimated as seconds a byte for each extension, so that a library of large lossless files is not judged by its
small ones.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tonearm.errors import DestinationError
from tonearm.planning.measure import Rates, scored_s
from tonearm.planning.sample import Listed, SampledTrack
from tonearm.runs.places import PLAN
from tonearm.sources.extensions import extension_of
from tonearm.storage import filesystems
from tonearm.tagging import HeadPlan

if TYPE_CHECKING:
    from tonearm.runs.destination import Destination

# What starting Ray, loading the models and the audit take, whatever there is to do.
START_S = 20.0
Z95 = 1.96


@dataclasses.dataclass(frozen=True)
class Machines:
    """What the run would have: cores that decode, workers that score, and whether these are the same cores."""

    num_cpus: float
    num_gpus: int
    num_decoders: float
    num_scorers: int
    is_shared: bool


@dataclasses.dataclass(frozen=True)
class Prices:
    """Money an hour, in any currency."""

    cpu_hour: float = 0.0
    gpu_hour: float = 0.0


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        audio_s, audio_low_s, audio_high_s: with a 95% interval from the sample.
        formats: share of the sampled tracks by codec.
        errors: sampled tracks that will not be read or decoded, by code; ``failing_low`` and ``failing_high`` are the
            95% interval (Wilson) of their share.
        decode_core_s, forward_worker_s: work in all.
        wall_s: with ``machines``; ``bottleneck`` is what it waits for.
        cost: of all machines for that long, or None without prices.
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
    looks: Sequence[SampledTrack],
    whole: Sequence[SampledTrack],
    plans: Mapping[str, HeadPlan],
    rates: Rates,
    machines: Machines,
    prices: Prices,
) -> Estimate:
    """Return what a run over ``listed`` would take.

    Args:
        looks: the sample by its headers.
        whole: some of them by decoding, which has the last word.
    """
    final = {each.ref.track_key: each for each in [*looks, *whole]}
    good = [each for each in final.values() if each.info is not None]
    errors = Counter(each.error_code or "" for each in final.values() if each.info is None)
    audio_s, spread_s = _hours(listed, list(final.values()))
    low, high = _wilson(len(final) - len(good), len(final))
    share = len(good) / len(final) if final else 1.0
    durations = [each.info.duration_s for each in good if each.info is not None]
    scored = sum(scored_s(plans, duration_s) for duration_s in durations) / sum(durations) if durations else 1.0
    num_windows = {}
    for head, plan in plans.items():
        counts = [len(plan.windows.starts(int(duration_s * plan.windows.sample_rate))) for duration_s in durations]
        num_windows[head] = round(sum(counts) / len(counts) * share * listed.num_tracks) if counts else 0
    decode_s, forward_s = audio_s / rates.decode, audio_s * scored / rates.forward
    stages = {"decoding": decode_s / machines.num_decoders, "scoring": forward_s / machines.num_scorers}
    wall_s = START_S + (sum(stages.values()) if machines.is_shared else max(stages.values()))
    hours = wall_s / 3600
    cost = hours * (machines.num_cpus * prices.cpu_hour + machines.num_gpus * prices.gpu_hour)
    formats = Counter(each.info.codec for each in good if each.info is not None)
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
    )


def _hours(listed: Listed, looks: Sequence[SampledTrack]) -> tuple[float, float]:
    """Return the seconds of audio in all and their standard error: a ratio estimate for each extension."""
    total = variance = 0.0
    overall = _ratio([each for each in looks if each.ref.size_bytes]) or (0.0, 0.0)
    mean_s = float(np.mean([each.info.duration_s if each.info else 0.0 for each in looks])) if looks else 0.0
    for extension, (num_tracks, num_bytes) in listed.by_extension.items():
        own = [each for each in looks if extension_of(each.ref.uri) == extension and each.ref.size_bytes]
        if not num_bytes:
            total += num_tracks * mean_s
            continue
        ratio, error = _ratio(own) or overall
        total += ratio * num_bytes
        # A track that was looked at is known: with all of them in the sample nothing is left to err about.
        variance += (error * num_bytes) ** 2 * max(0.0, 1 - len(own) / num_tracks)
    return total, math.sqrt(variance)


def _ratio(looks: Iterable[SampledTrack]) -> tuple[float, float] | None:
    """Return seconds of audio a byte and the standard error (Cochran, Sampling Techniques, 1977, section 6.4)."""
    pairs = [(each.info.duration_s if each.info else 0.0, each.ref.size_bytes or 0) for each in looks]
    if not pairs:
        return None
    seconds, sizes = np.array(pairs, np.float64).T
    ratio = seconds.sum() / sizes.sum()
    if len(pairs) < 2:
        return float(ratio), float(ratio)
    spread = np.sqrt(((seconds - ratio * sizes) ** 2).sum() / (len(pairs) - 1))
    return float(ratio), float(spread / (sizes.mean() * math.sqrt(len(pairs))))


def _wilson(num: int, of: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927)."""
    if not of:
        return 0.0, 1.0
    share, z2 = num / of, Z95**2
    center, half = share + z2 / (2 * of), Z95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, (center - half) / (1 + z2 / of)), min(1.0, (center + half) / (1 + z2 / of))


def _url(destination: Destination) -> str:
    return destination.checkpoint(PLAN)


def keep(destination: Destination, plan: Estimate) -> None:
    """Write the estimate beside the destination's checkpoints, for the run to be compared with.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    filesystems.write_text(_url(destination), plan.to_json())


def kept(destination: Destination) -> dict[str, Any] | None:
    """Return the estimate that was kept, or None."""
    try:
        with filesystems.reading(_url(destination)):
            values: dict[str, Any] = json.loads(filesystems.read_bytes(_url(destination)))
    except (DestinationError, ValueError):  # it is only there to be compared with
        return None
    return values if {"audio_s", "wall_s", "num_tracks"} <= set(values) else None
