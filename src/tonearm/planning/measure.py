"""How fast this machine decodes and scores: whole tracks of the sample, for as long as measuring may take."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tonearm.audio.decode import DecodedTrack
from tonearm.audio.loader import TrackLoader
from tonearm.errors import SourceError, TrackError
from tonearm.planning.sample import SampledTrack
from tonearm.sources.reader import ObjectReader
from tonearm.tagging import HeadPlan, Tagger, TagPlan
from tonearm.wording import counted

if TYPE_CHECKING:
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.settings import TagSettings

NUM_WHOLE = 12
MEASURE_S = 15.0


@dataclasses.dataclass(frozen=True)
class Rates:
    """How fast a part is: seconds of audio that one core decodes, and that one worker scores with every head, a second.

    ``measured`` says which of them were measured here.
    """

    decode: float
    forward: float
    measured: tuple[str, ...] = ()


def measure(
    looks: Sequence[SampledTrack],
    settings: TagSettings,
    plan: TagPlan,
    sandbox: DecodeSandbox,
    *,
    decode: float | None = None,
    forward: float | None = None,
    num_threads: int,
) -> tuple[Rates, list[SampledTrack]]:
    """Return the rates, those not given measured on whole tracks of the sample, and what those turned out to be.

    Args:
        decode, forward: rates that are known; see ``Rates``.
        num_threads: of one scoring worker.

    Raises:
        SourceError: no track of the sample can be decoded, so that nothing can be measured.
    """
    measured = tuple(name for name, value in (("decode", decode), ("forward", forward)) if value is None)
    if not measured:
        return Rates(decode or 0.0, forward or 0.0), []
    loader = TrackLoader(ObjectReader(settings.fetch), sandbox, plan.decode_request())
    tracks: list[DecodedTrack] = []
    whole: list[SampledTrack] = []
    decode_s, ends = 0.0, time.monotonic() + MEASURE_S
    for each in looks:
        if each.info is None or len(whole) >= NUM_WHOLE or (tracks and time.monotonic() > ends):
            continue
        data = loader.fetch(each.ref)
        started = time.perf_counter()
        track = loader.decode(data, each.ref)
        if isinstance(track, TrackError):
            whole.append(SampledTrack(each.ref, None, track.code))
            continue
        # The first one also starts the child.
        decode_s += time.perf_counter() - started if tracks else 0.0
        tracks.append(track)
        whole.append(SampledTrack(each.ref, track.info))
    if not tracks:
        raise SourceError(
            f"none of the {counted(len(looks), 'sampled track')} can be decoded, so nothing can be measured; "
            "give --decode-rate and --forward-rate, or look at what is listed"
        )
    timed = tracks[1:] or tracks
    if decode is None:
        if not tracks[1:]:
            ref = next(each.ref for each in whole if each.info is not None)
            data = loader.fetch(ref)
            started = time.perf_counter()
            loader.decode(data, ref)
            decode_s = time.perf_counter() - started
        decode = sum(track.info.duration_s for track in timed) / max(decode_s, 1e-6)
    if forward is None:
        forward = _forward_rate(tracks, plan, num_threads)
    return Rates(decode, forward, measured), whole


def _forward_rate(tracks: Sequence[DecodedTrack], plan: TagPlan, num_threads: int) -> float:
    tagger = Tagger.of(plan, num_threads=num_threads)
    tagger.score([tracks[0]])  # the first pass also prepares
    audio_s, started = 0.0, time.perf_counter()
    for track in tracks:
        tagger.score([track])
        audio_s += scored_s(tagger.plans, track.info.duration_s)
        if time.perf_counter() - started > MEASURE_S:
            break
    return audio_s / max(time.perf_counter() - started, 1e-6)


def scored_s(plans: Mapping[str, HeadPlan], duration_s: float) -> float:
    """Return the seconds that the heads score of a track, the mean over the heads."""
    scored = [
        len(plan.windows.starts(int(duration_s * plan.windows.sample_rate))) * plan.window_s for plan in plans.values()
    ]
    return sum(scored) / len(plans)
