"""A training planned step by step, so that errors are reported before hours are spent.

::

    list_clips ─ Listing ─ make_collection ─ Collection ─ split_collection ─ Split ─┐
                            read_initial_model ─ InitialModel ─ open_clips ─ ClipSet ┴ plan_training ─ TrainingJob
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tonearm.audio.windows import WindowPlan
from tonearm.errors import SourceError
from tonearm.models.window_plan import plan_windows
from tonearm.settings import TrainSettings
from tonearm.training.checks import (
    check_broken,
    check_classes,
    describe_straddling,
)
from tonearm.training.data.clips import ClipSet, add_missing, open_clips
from tonearm.training.data.collection import ClipId, Collection, Listing, label_numbers, make_collection
from tonearm.training.data.duplicates import AcousticFingerprints, Duplicate, describe_duplicates, find_duplicates
from tonearm.training.data.omitted import Omitted
from tonearm.training.data.splits import Split, split_collection
from tonearm.training.fit.initial import InitialModel, choose_head, read_initial_model
from tonearm.training.fit.job import Example, TrainingJob
from tonearm.training.settings_hash import settings_hash


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A collection and which of its clips are learnt from; known before a model is looked at or a clip decoded."""

    collection: Collection
    split: Split


@dataclasses.dataclass(frozen=True)
class Materials:
    """What a training takes in; two trainings on different splits of one listing share it.

    Attributes:
        num_parameters: of the model.
    """

    initial: InitialModel
    num_parameters: int
    clips: ClipSet
    fingerprints: AcousticFingerprints


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """A training run, ready to start.

    Attributes:
        job: what each worker needs.
        duplicates: every pair of a held-out clip and its copy in training, also where the copies were taken out.
        broken: the clips that could not be decoded.
        notes: what a person should know before it starts, a line each.
        settings_hash: of all that decides the weights it will end with.
    """

    job: TrainingJob
    collection: Collection
    split: Split
    duplicates: tuple[Duplicate, ...]
    broken: tuple[ClipId, ...]
    omitted: Omitted
    notes: tuple[str, ...]
    num_parameters: int
    settings_hash: str


def draw(listing: Listing, settings: TrainSettings) -> Drawn:
    """Return the clips that there are to learn from, and the split: made once, here.

    Raises:
        SourceError: too few labels or clips, or labels that are missing.
    """
    collection = make_collection(listing, settings.labels)
    return Drawn(collection, split_collection(collection, settings.labels, settings.seed))


def take_in(
    collection: Collection,
    settings: TrainSettings,
    *,
    num_threads: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Materials:
    """Judge the model to begin with, by its files' headers, and decode the clips.

    Args:
        progress: told how many of how many clips are decoded.

    Raises:
        UsageError: a model that cannot be trained on these clips.
    """
    initial = read_initial_model(settings.model, revision=settings.revision, from_scratch=settings.from_scratch)
    head = choose_head(initial, collection.labels, new_head=settings.new_head)
    windows = windows_of(initial, settings)
    from tonearm.training.fit.initial_weights import Classifier, count_parameters  # torch

    # Before the clips are decoded: weights that are missing or of another model are refused within seconds.
    num_parameters = count_parameters(initial, Classifier(head.labels, collection.is_multi, settings.window_s))
    refs = {clip: track.ref for clip, track in collection.clips.items()}
    clips = open_clips(
        [refs], windows, settings, num_threads=num_threads, progress=lambda done: progress(done, len(refs))
    )
    return Materials(initial, num_parameters, clips, AcousticFingerprints(clips))


def plan_training(drawn: Drawn, materials: Materials, settings: TrainSettings, *, num_threads: int) -> TrainingPlan:
    """Settle everything that can be settled before the workers start.

    Raises:
        UsageError: what would make the run fail or its result worthless.
        TooManyFailures: more clips are broken than ``max_error_rate`` allows.
    """
    collection, clips, labels = drawn.collection, materials.clips, settings.labels
    head = choose_head(materials.initial, collection.labels, new_head=settings.new_head)
    notes = [head.note] if head.note else []

    refs = {clip: track.ref for clip, track in collection.clips.items()}
    add_missing(clips, refs, settings, num_threads=num_threads)
    errors = {clip: clips.errors[clip] for clip in refs if clip in clips.errors}
    notes += check_broken(collection, errors, settings.max_error_rate)

    sides = drawn.split.sides()
    duplicates = [] if labels.duplicates == "ignore" else find_duplicates(materials.fingerprints, sides, num_threads)
    is_dropped = labels.duplicates == "drop"
    copies = {pair.trained_on for pair in duplicates} if is_dropped else set()
    names = {clip: track.name for clip, track in collection.clips.items()}
    notes += describe_duplicates(duplicates, names, is_dropped=is_dropped)
    notes += describe_straddling(collection, drawn.split, labels)

    omitted = Omitted(collection.no_side, collection.unlabelled, len(copies), len(errors))
    # What is broken is named above, clip by clip.
    notes += dataclasses.replace(omitted, broken=0).lines(labels.split_by)
    split = drawn.split.without(errors, copies)
    notes += check_classes(collection, split, head.labels)

    train, validation, test = (
        tuple(Example(clip, label_numbers(collection.clips[clip], head.labels)) for clip in side)
        for side in (split.train, split.validation, split.test)
    )
    job = TrainingJob(
        settings,
        materials.initial,
        head.labels,
        collection.is_multi,
        clips.plan,
        train,
        validation,
        test,
        tuple(clips.caches),
    )
    return TrainingPlan(
        job,
        collection,
        split,
        tuple(duplicates),
        tuple(errors),
        omitted,
        tuple(notes),
        materials.num_parameters,
        settings_hash(job, collection),
    )


def windows_of(initial: InitialModel, settings: TrainSettings) -> WindowPlan:
    """Return how clips are cut, by the rule that tagging cuts tracks by.

    Raises:
        SourceError: windows longer than the model takes.
    """
    asked, native = settings.window_s, initial.native_window_s
    if asked is not None and native is not None and asked > native and not initial.from_scratch:
        raise SourceError(
            f"got --window-s {asked:g} for {initial.name}, expected at most {native:g} s, which is all that the "
            "checkpoint takes at once"
        )
    if asked is not None:
        # The model cannot take a shorter window.
        asked = max(asked, initial.min_samples / initial.sample_rate)
    return plan_windows(initial, asked, settings.max_windows, is_resizable=initial.from_scratch)
