"""The decoded clips of a training: windows spread over each to learn from, and held-out clips whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TypeAlias

from tonearm.audio.windows import WindowPlan
from tonearm.errors import TrackError
from tonearm.settings import TrainSettings
from tonearm.sources.track_ref import TrackRef
from tonearm.surroundings import cache_folder
from tonearm.training.data.cache import Clip, ClipCache, open_cache
from tonearm.training.data.collection import ClipId

Refs: TypeAlias = Mapping[ClipId, TrackRef]


class ClipSet:
    """Decoded clips by their ids, from one cache or several; a later one goes before those before it.

    Attributes:
        caches: the clips of each cache, in their order, and where they are: what each is known by.
        errors: why others could not be decoded.
    """

    def __init__(self, plan: WindowPlan) -> None:
        self.plan = plan
        self.caches: list[Refs] = []
        self.refs: dict[ClipId, TrackRef] = {}
        self.errors: dict[ClipId, TrackError] = {}
        self._cache: dict[ClipId, ClipCache] = {}

    def add(self, cache: ClipCache, refs: Refs) -> None:
        """Take these clips from ``cache`` from now on."""
        self.caches.append(refs)
        self.refs.update(refs)
        self.errors |= cache.errors
        self._cache |= dict.fromkeys(refs, cache)

    def clip(self, clip: ClipId) -> Clip:
        """Return a clip that decoded."""
        return self._cache[clip].clip(clip)


def open_clips(
    caches: Sequence[Refs],
    plan: WindowPlan,
    settings: TrainSettings,
    *,
    num_threads: int,
    progress: Callable[[int], None] = lambda done: None,
    again: AbstractSet[ClipId] | None = None,
) -> ClipSet:
    """Return the clips, decoded where they are not in the cache that the settings name; see ``open_cache``."""
    clips = ClipSet(plan)
    for refs in caches:
        clips.add(_open(refs, plan, settings, num_threads, progress, again), refs)
    return clips


def add_missing(clips: ClipSet, refs: Refs, settings: TrainSettings, *, num_threads: int) -> None:
    """Decode those of ``refs`` that are not among ``clips``."""
    missing = {clip: ref for clip, ref in refs.items() if clip not in clips.refs}
    if missing:
        clips.add(_open(missing, clips.plan, settings, num_threads), missing)


def add_whole(clips: ClipSet, held_out: Iterable[ClipId], settings: TrainSettings, *, num_threads: int) -> None:
    """Have held-out clips scored whole, as ``tonearm evaluate`` scores them.

    Those with more windows than are kept to learn from are decoded once more; most collections have none.
    """
    plan, limit = clips.plan, settings.decode.max_scored_s
    most = max(1, int(limit * plan.sample_rate) // plan.window_samples)
    whole = dataclasses.replace(plan, max_windows=most)
    wanted = set(held_out) - clips.errors.keys()
    lengths = {clip: clips.clip(clip).stream.num_samples for clip in clips.refs if clip in wanted}
    long = [clip for clip, length in lengths.items() if len(whole.starts(length)) != len(plan.starts(length))]
    if long:
        refs = {clip: clips.refs[clip] for clip in long}
        clips.add(_open(refs, whole, settings, num_threads), refs)


def _open(
    refs: Refs,
    plan: WindowPlan,
    settings: TrainSettings,
    num_threads: int,
    progress: Callable[[int], None] = lambda done: None,
    again: AbstractSet[ClipId] | None = None,
) -> ClipCache:
    base = Path(settings.cache) if settings.cache is not None else cache_folder() / "clips"
    return open_cache(
        base,
        refs,
        plan,
        fetch=settings.fetch,
        decode=settings.decode,
        num_threads=num_threads,
        progress=progress,
        again=again,
    )
