"""Everything that can be known before hours are spent: the labels, the split, the decoded clips, what is doubtful.

The result is a ``Prepared``: what each worker needs, and what a person should be told.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tonearm.audio.windows import WindowPlan
from tonearm.errors import DestinationError, SourceError, Stopped, TooManyFailures
from tonearm.settings import LabelSettings, TrainSettings
from tonearm.sources.labelled import Collection, LabelledTrack, list_labelled
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.uris import shown
from tonearm.training.data.cache import ClipCache
from tonearm.training.data.clips import add_whole, cache_of
from tonearm.training.data.duplicates import Duplicate, describe_twins, find_twins
from tonearm.training.data.examples import Example
from tonearm.training.data.omitted import Omitted
from tonearm.training.data.splits import (
    FAULT_FILTERED,
    STRATIFIED,
    TRAIN,
    Split,
    fault_filtered,
    is_gtzan,
    on_a_side,
    split_tracks,
    straddling_groups,
)
from tonearm.training.fit.initial import Start, load_start, read_start
from tonearm.training.fit.recipe import Job
from tonearm.wording import counted

NUM_NAMED = 3
DEFAULT_WINDOW_S = 30.0
# A checkpoint while training holds the weights, two moments of AdamW, and the best weights so far.
COPIES_IN_CHECKPOINT = 4

# Settings that say how a run is made and watched, and decide no weight.
UNDECIDING = (
    "workers",
    "max_failures",
    "trackers",
    "cache",
    "verbose",
    "fetch",
    "decode",
    "checkpoint_steps",
    "log_steps",
    "compare_split",
    "note",
    "license",
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A training run, ready to start.

    Attributes:
        refs: the tracks of the cache, by the numbers that examples use.
        twins: every pair of a held-out clip and its copy in training, also where the copies were taken out.
        notes: what a person should know before it starts, a line each.
        fingerprint: of all that decides the weights it will end with.
    """

    job: Job
    start: Start
    refs: tuple[TrackRef, ...]
    collection: Collection
    split: Split
    twins: tuple[Duplicate, ...]
    broken: tuple[int, ...]
    omitted: Omitted
    notes: tuple[str, ...]
    num_parameters: int
    fingerprint: str

    def open_cache(self, num_threads: int, progress: Callable[[int], None] = lambda done: None) -> ClipCache:
        """Return the decoded clips, on this machine; made if they are not there.

        Raises:
            Stopped: a clip of the split, which could be read when the run was prepared, cannot be read here and now.
        """
        job = self.job
        held_out = {example.clip for side in (job.validation, job.test) for example in side}
        needed = held_out | {example.clip for example in job.train}
        cache = cache_of(job.settings, self.refs, job.plan, num_threads, progress, again=needed)
        add_whole(cache, job.settings, self.refs, held_out, num_threads)
        failed = sorted(needed & cache.errors.keys())
        if failed:
            track, error = self.collection.tracks[failed[0]], cache.errors[failed[0]]
            raise Stopped(
                f"{len(failed)} of {counted(len(needed), 'clip')} cannot be read any more, or not from this machine "
                f"(the first: {_place(track)}: {error.message}); the same command goes on once they can"
            )
        return cache


def prepare(
    source: str,
    settings: TrainSettings,
    *,
    num_threads: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Prepared:
    """Read, check, split and decode a collection.

    Args:
        progress: told how many of how many clips are decoded.

    Raises:
        UsageError: what would make the run fail or its result worthless.
        TooManyFailures: more clips are broken than ``max_error_rate`` allows.
    """
    collection, no_side, unlabelled = _labelled(source, settings.labels)
    is_multi = settings.labels.multi_label if settings.labels.multi_label is not None else collection.is_multi
    labels = _labels(source, collection, is_multi)
    split = split_tracks(collection.tracks, settings.labels, settings.seed)
    start = read_start(
        settings.model,
        labels,
        revision=settings.revision,
        from_scratch=settings.from_scratch,
        new_head=settings.new_head,
    )
    labels = start.labels if start.keeps_head else labels
    plan = _plan(start, settings)
    refs = tuple(track.ref for track in collection.tracks)
    cache = cache_of(settings, refs, plan, num_threads, lambda done: progress(done, len(refs)))
    notes = [start.note] if start.note else []
    notes += _check_broken(collection, cache, settings)
    num_parameters = _check_model(start, settings, labels, is_multi)
    twins = _twins(cache, split, settings, num_threads)
    is_dropped = settings.labels.duplicates == "drop"
    notes += describe_twins(twins, [track.name for track in collection.tracks], is_dropped=is_dropped)
    notes += _describe_straddling(collection, split, settings.labels)
    copies = {twin.trained_on for twin in twins} if is_dropped else set()
    omitted = Omitted(no_side, unlabelled, len(copies), len(cache.errors))
    # What is broken is named above, clip by clip.
    notes += dataclasses.replace(omitted, broken=0).lines(settings.labels.split_by)
    split = _without(split, set(cache.errors), copies)
    notes += _check_classes(collection, split, labels, is_multi)
    job = Job(
        settings,
        labels,
        is_multi,
        plan,
        *(
            tuple(Example(number, target_of(collection.tracks[number], labels)) for number in side)
            for side in (split.train, split.validation, split.test)
        ),
    )
    return Prepared(
        job,
        start,
        refs,
        collection,
        split,
        tuple(twins),
        tuple(sorted(cache.errors)),
        omitted,
        tuple(notes),
        num_parameters,
        _fingerprint(job, start, refs),
    )


def _labelled(source: str, settings: LabelSettings) -> tuple[Collection, dict[str, int], int]:
    """Return the labelled tracks on a side of the split, the numbers of those on none by value, and of the unlabelled.

    What stands on no side says nothing of what there is to learn.
    """
    collection = list_collection(source, settings)
    tracks, no_side = on_a_side(collection.tracks, settings)
    labelled = only_labelled(source, tracks, collection.label_by, settings)
    return dataclasses.replace(collection, tracks=labelled), no_side, len(tracks) - len(labelled)


def list_collection(source: str, settings: LabelSettings) -> Collection:
    """Return the tracks of a collection with all that ``settings`` names of them."""
    field = None if settings.split_by in (STRATIFIED, FAULT_FILTERED) else settings.split_by
    collection = list_labelled(
        source,
        label_by=settings.label_by,
        group_by=settings.group_by,
        split_by=field,
        source_by=settings.source_by,
    )
    if settings.split_by == FAULT_FILTERED and is_gtzan(collection.tracks):
        sides = fault_filtered(collection.tracks)
        tracks = zip(collection.tracks, sides, strict=True)
        return dataclasses.replace(
            collection, tracks=tuple(dataclasses.replace(track, split=side) for track, side in tracks)
        )
    return collection


def only_labelled(
    source: str, tracks: Sequence[LabelledTrack], label_by: str, settings: LabelSettings
) -> tuple[LabelledTrack, ...]:
    """Return the tracks that have labels.

    Raises:
        SourceError: some have none, and that was not allowed.
    """
    bare = [track for track in tracks if track.labels is None]
    if bare and not settings.skip_unlabelled:
        raise SourceError(
            f"{len(bare)} of {counted(len(tracks), 'clip')} of {shown(source)} have no label by {label_by} (the "
            f"first is {shown(bare[0].ref.uri)}); fill them in, name another field with --label-by, or give "
            "--skip-unlabelled"
        )
    return tuple(track for track in tracks if track.labels is not None)


def _labels(source: str, collection: Collection, is_multi: bool) -> tuple[str, ...]:
    labels = tuple(sorted(collection.counts))
    if len(labels) < (1 if is_multi else 2):
        got = f"the one class {labels[0]}" if labels else "no class"
        raise SourceError(
            f"{shown(source)} has {got} by {collection.label_by}, expected at least 2; expected a folder a class, or "
            "name the field with --label-by"
        )
    if not is_multi:
        check_single(collection.tracks)
    return labels


def check_single(tracks: Sequence[LabelledTrack]) -> None:
    """Refuse tracks with several labels, or none, where each should have one.

    Raises:
        SourceError: naming the first.
    """
    for track in tracks:
        if len(track.labels or ()) != 1:
            raise SourceError(
                f"{shown(track.ref.uri)} has {counted(len(track.labels or ()), 'label')}, expected 1; give "
                "--multi-label"
            )


def target_of(track: LabelledTrack, labels: Sequence[str]) -> tuple[float, ...]:
    """Return what is true of a track: 1 for each of ``labels`` that it has, else 0."""
    present = set(track.labels or ())
    return tuple(float(label in present) for label in labels)


def _plan(start: Start, settings: TrainSettings) -> WindowPlan:
    wanted = [settings.window_s, start.native_window_s, DEFAULT_WINDOW_S]
    window_s = next(value for value in wanted if value is not None)
    if start.native_window_s is not None and window_s > start.native_window_s and not start.from_scratch:
        raise SourceError(
            f"got --window-s {window_s:g} for {start.source}, expected at most {start.native_window_s:g} s, which is "
            "all that the checkpoint takes at once"
        )
    samples = max(round(window_s * start.sample_rate), start.min_samples)
    return WindowPlan(start.sample_rate, samples, samples, settings.max_windows, start.min_samples)


def _check_broken(collection: Collection, cache: ClipCache, settings: TrainSettings) -> list[str]:
    if not cache.errors:
        return []
    lines = [
        f"{_place(collection.tracks[number])}: {error.message} ({error.code})"
        for number, error in sorted(cache.errors.items())
    ]
    share = len(lines) / len(collection.tracks)
    if share > settings.max_error_rate:
        raise TooManyFailures(
            f"{len(lines)} of {counted(len(collection.tracks), 'clip')} cannot be used (the first: {lines[0]}), more "
            f"than max_error_rate {settings.max_error_rate:g} allows; repair them or allow more"
        )
    more = f", and {len(lines) - NUM_NAMED} more" if len(lines) > NUM_NAMED else ""
    return [f"left out, cannot be decoded: {'; '.join(lines[:NUM_NAMED])}{more}"]


def _place(track: LabelledTrack) -> str:
    place = shown(track.ref.uri)
    return place if place.endswith(track.name) else f"{track.name} in {place}"


def _check_model(start: Start, settings: TrainSettings, labels: Sequence[str], is_multi: bool) -> int:
    """Load the weights once here, so that what is wrong with them is said before a cluster starts."""
    model, _ = load_start(start, labels, is_multi=is_multi, seed=settings.seed, window_s=settings.window_s)
    return sum(weight.numel() for weight in model.parameters())


def check_space(folder: Path, num_parameters: int) -> None:
    """Refuse a local destination on which not even two checkpoints fit.

    Raises:
        DestinationError: too little space.
    """
    needed = 2 * COPIES_IN_CHECKPOINT * 4 * num_parameters
    place = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DestinationError(
            f"checkpoints need some {needed / 2**30:.1f} GiB and {folder} has {free / 2**30:.1f} GiB free; free some "
            "or give another --out"
        )


def _twins(cache: ClipCache, split: Split, settings: TrainSettings, num_threads: int) -> list[Duplicate]:
    if settings.labels.duplicates == "ignore":
        return []
    return find_twins(cache, split.sides(), num_threads)


def _describe_straddling(collection: Collection, split: Split, settings: LabelSettings) -> list[str]:
    straddling = straddling_groups(collection.tracks, split)
    if not straddling:
        return []
    named = ", ".join(straddling[:NUM_NAMED]) + (" ..." if len(straddling) > NUM_NAMED else "")
    stand = counted(len(straddling), "group", f"by {settings.group_by} stands", f"by {settings.group_by} stand")
    return [f"{stand} on both sides of the given split ({named})"]


def _without(split: Split, broken: set[int], copies: set[int]) -> Split:
    rest = Split(_but(split.train, broken | copies), _but(split.validation, broken), _but(split.test, broken))
    for name, numbers in split.sides().items():
        if name != TRAIN and name not in rest.sides():
            raise SourceError(
                f"none of the {counted(len(numbers), 'clip')} of {name} can be decoded; repair them, or hold out others"
            )
    return rest


def _but(numbers: Sequence[int], unwanted: set[int]) -> tuple[int, ...]:
    return tuple(number for number in numbers if number not in unwanted)


def _check_classes(collection: Collection, split: Split, labels: Sequence[str], is_multi: bool) -> list[str]:
    counts = Counter(label for number in split.train for label in collection.tracks[number].labels or ())
    absent = [label for label in labels if not counts[label]]
    if not split.train:
        raise SourceError("no clip is left to learn from; see what was left out above, or change the split")
    if absent and not is_multi:
        raise SourceError(
            f"no clip to learn from has the label {', '.join(absent[:NUM_NAMED])}; add some, or change the split"
        )
    notes = [f"no clip to learn from has the tag {', '.join(absent[:NUM_NAMED])}"] if absent else []
    for name, numbers in () if is_multi else split.sides().items():
        seen = {label for number in numbers for label in collection.tracks[number].labels or ()}
        absent = [label for label in labels if label not in seen]
        if absent:
            more = f" ... ({len(absent)} of {counted(len(labels), 'label')})" if len(absent) > NUM_NAMED else ""
            notes.append(f"no clip of {name} has the label {', '.join(absent[:NUM_NAMED])}{more}")
    return notes


def _fingerprint(job: Job, start: Start, refs: Sequence[TrackRef]) -> str:
    """Return a hash over what decides the weights; how it is run and watched does not."""
    facts: dict[str, Any] = dataclasses.asdict(job.settings)
    for name in UNDECIDING:
        del facts[name]
    sides = [[example.clip for example in side] for side in (job.train, job.validation, job.test)]
    text = json.dumps([facts, job.labels, sides, [ref.track_key for ref in refs], start.source], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
