"""The decoded clips of a collection: windows spread over each to learn from, and held-out clips whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from tonearm.audio.windows import WindowPlan
from tonearm.settings import TrainSettings
from tonearm.sources.track_ref import TrackRef
from tonearm.surroundings import cache_folder
from tonearm.training.data.cache import ClipCache, open_cache


def cache_of(
    settings: TrainSettings,
    refs: Sequence[TrackRef],
    plan: WindowPlan,
    num_threads: int,
    progress: Callable[[int], None] = lambda done: None,
    again: AbstractSet[int] | None = None,
) -> ClipCache:
    """Return the cache of ``refs`` in the folder that the settings name; see ``open_cache``."""
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


def add_whole(
    cache: ClipCache, settings: TrainSettings, refs: Sequence[TrackRef], held_out: Iterable[int], num_threads: int
) -> None:
    """Have held-out clips scored whole, as ``tonearm evaluate`` scores them.

    Those with more windows than are kept to learn from are decoded once more; most collections have none.
    """
    plan, limit = cache.plan, settings.decode.max_scored_s
    most = max(1, int(limit * plan.sample_rate) // plan.window_samples)
    whole = dataclasses.replace(plan, max_windows=most)
    lengths = {number: cache.clip(number).stream.num_samples for number in held_out if number not in cache.errors}
    long = sorted(number for number, length in lengths.items() if len(whole.starts(length)) != len(plan.starts(length)))
    if long:
        cache.add_whole(long, cache_of(settings, [refs[number] for number in long], whole, num_threads))
