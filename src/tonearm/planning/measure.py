"""Measure how fast this machine decodes and scores, on whole tracks of the sample and within a time limit."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tonearm.audio.decode import DecodedTrack
from tonearm.audio.loader import TrackLoader
from tonearm.errors import SourceError, TrackError
from tonearm.planning.sample import SampledTrack
from tonearm.runs.counts import WindowCounts
from tonearm.sources.reader import ObjectReader
from tonearm.tagging import HeadPlan, Tagger, TagPlan
from tonearm.wording import counted

if TYPE_CHECKING:
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.settings import TagSettings

# At most this many whole tracks are decoded, and decoding or scoring stops after this time: a plan is asked for to
# save time.
NUM_WHOLE = 12
MEASURE_S = 15.0


@dataclasses.dataclass(frozen=True)
class Rates:
    """Rates in seconds of audio per second: what one core decodes, and what one worker scores with all heads.

    ``measured`` names the rates that were measured on this machine rather than given, and ``share_sent`` has the share
    of the windows that went to each head's fallback meanwhile.
    """

    decode: float
    forward: float
    measured: tuple[str, ...] = ()
    share_sent: dict[str, float] = dataclasses.field(default_factory=dict)


class Measured(NamedTuple):
    """Rates, and the tracks that were decoded to measure them."""

    rates: Rates
    decoded: list[SampledTrack]


def measure(
    probed: Sequence[SampledTrack],
    settings: TagSettings,
    plan: TagPlan,
    sandbox: DecodeSandbox,
    *,
    decode: float | None = None,
    forward: float | None = None,
    num_threads: int,
) -> Measured:
    """Return the rates; one that is given is not measured.

    Args:
        probed: the sample, described by its headers.
        decode, forward: rates that are known already; see ``Rates``.
        num_threads: number of threads of one scoring worker.

    Raises:
        SourceError: no track of the sample can be decoded, so that nothing can be measured.
    """
    measured = tuple(name for name, value in (("decode", decode), ("forward", forward)) if value is None)
    if not measured:
        return Measured(Rates(decode or 0.0, forward or 0.0), [])
    loader = TrackLoader(ObjectReader(settings.fetch), sandbox, plan.decode_request())
    tracks: list[DecodedTrack] = []
    decoded: list[SampledTrack] = []
    decode_s, deadline_s = 0.0, time.monotonic() + MEASURE_S
    for sampled in probed:
        if sampled.info is None or len(decoded) >= NUM_WHOLE or (tracks and time.monotonic() > deadline_s):
            continue
        data = loader.fetch(sampled.ref)
        started_s = time.perf_counter()
        track = loader.decode(data, sampled.ref)
        if isinstance(track, TrackError):
            decoded.append(SampledTrack(sampled.ref, None, track.code))
            continue
        # The first track is not timed: decoding it also starts the sandbox's child process.
        decode_s += time.perf_counter() - started_s if tracks else 0.0
        tracks.append(track)
        decoded.append(SampledTrack(sampled.ref, track.info))
    if not tracks:
        raise SourceError(
            f"none of the {counted(len(probed), 'sampled track')} can be decoded, so nothing can be measured; "
            "give --decode-rate and --forward-rate, or look at what is listed"
        )
    timed = tracks[1:] or tracks
    if decode is None:
        # With a single track, decode it again, now that the child process runs.
        if not tracks[1:]:
            ref = next(sampled.ref for sampled in decoded if sampled.info is not None)
            data = loader.fetch(ref)
            started_s = time.perf_counter()
            loader.decode(data, ref)
            decode_s = time.perf_counter() - started_s
        decode = sum(track.info.duration_s for track in timed) / max(decode_s, 1e-6)
    share_sent: dict[str, float] = {}
    if forward is None:
        forward, share_sent = _measure_forward(tracks, plan, num_threads)
    return Measured(Rates(decode, forward, measured, share_sent), decoded)


def _measure_forward(tracks: Sequence[DecodedTrack], plan: TagPlan, num_threads: int) -> tuple[float, dict[str, float]]:
    """Return the rate, and for each head that has a fallback the share of the windows that went there."""
    tagger = Tagger.of(plan, num_threads=num_threads)
    tagger.score([tracks[0]])  # not timed: the first pass also compiles kernels and allocates memory
    audio_s, started_s = 0.0, time.perf_counter()
    routed: dict[str, WindowCounts] = {}
    for track in tracks:
        scores = tagger.score_windows([track])
        tagger.pooled([track], scores)
        audio_s += scored_s(tagger.plans, track.info.duration_s)
        for head, counts in tagger.routed(scores).items():
            routed[head] = counts.plus(routed.get(head, WindowCounts()))
        if time.perf_counter() - started_s > MEASURE_S:
            break
    rate = audio_s / max(time.perf_counter() - started_s, 1e-6)
    return rate, {head: counts.share_sent for head, counts in routed.items()}


def scored_s(plans: Mapping[str, HeadPlan], duration_s: float) -> float:
    """Return how many seconds of a track a head scores, as the mean over the heads."""
    scored = [
        len(plan.windows.starts(int(duration_s * plan.windows.sample_rate))) * plan.window_s for plan in plans.values()
    ]
    return sum(scored) / len(plans)
