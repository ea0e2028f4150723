"""A training planned step by step, so that errors are reported before hours are spent.

::

    list_clips ─ Listing ─ draw ─ Drawn ────────────────────────────────────────┬ plan_training ─ TrainingPlan
                                    └ choose_model ─ ModelChoice ─ open_clips ─ ClipSet ┘
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tonearm.errors import TrackError, UsageError
from tonearm.settings import LabelSettings, TrainSettings
from tonearm.training.data.clips import add_missing
from tonearm.training.data.collection import ClipId, Collection, Drawn, Listing, draw, label_numbers
from tonearm.training.data.duplicates import AcousticFingerprints, Duplicate, describe_duplicates, find_duplicates
from tonearm.training.data.omitted import Omitted, check_broken
from tonearm.training.data.splits import FAULT_FILTERED, STRATIFIED, Split, check_classes, describe_straddling
from tonearm.training.fit.initial import InitialModel, ModelChoice, choose_model
from tonearm.training.fit.job import Example, TrainingJob

if TYPE_CHECKING:
    from tonearm.training.fit.initial_weights import EmptyModel

# Settings about how a training runs and is watched, which do not change the weights.
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
class TrainingPlan:
    """A training run, ready to start.

    Attributes:
        job: what each worker is given.
        empty: the model of the job, without weights.
        duplicates: every pair of a held-out clip and its copy in training, including copies that were taken out.
        broken: the clips that could not be decoded.
        notes: lines that the user should read before the training starts.
        settings_hash: hash of everything that decides the final weights.
    """

    job: TrainingJob
    collection: Collection
    split: Split
    duplicates: tuple[Duplicate, ...]
    broken: tuple[ClipId, ...]
    omitted: Omitted
    notes: tuple[str, ...]
    empty: EmptyModel
    settings_hash: str

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the model."""
        return self.empty.num_parameters


@dataclasses.dataclass(frozen=True)
class Usable:
    """What a training can use of a collection: the split without what is broken or dropped, and what to say of that."""

    split: Split
    errors: Mapping[ClipId, TrackError]
    duplicates: tuple[Duplicate, ...]
    omitted: Omitted
    notes: tuple[str, ...]

    def plan(self, job: TrainingJob, collection: Collection, empty: EmptyModel) -> TrainingPlan:
        """Return the plan of a job on it."""
        return TrainingPlan(
            job,
            collection,
            self.split,
            self.duplicates,
            tuple(self.errors),
            self.omitted,
            self.notes,
            empty,
            settings_hash(job, collection),
        )


class Copies(NamedTuple):
    """Clips that are trained on and have a copy that is held out; ``dropped`` are those that the settings take out."""

    pairs: tuple[Duplicate, ...]
    dropped: frozenset[ClipId]
    notes: list[str]


def find_usable(
    drawn: Drawn,
    fingerprints: AcousticFingerprints,
    errors: Mapping[ClipId, TrackError],
    settings: TrainSettings,
    notes: Sequence[str],
    *,
    num_threads: int,
) -> Usable:
    """Return what a training can use of a collection.

    Args:
        errors: of the clips that cannot be used.
        notes: what is to be said before.

    Raises:
        TooManyFailures: there are more errors than ``max_error_rate`` allows.
    """
    collection, labels = drawn.collection, settings.labels
    broken = check_broken(collection, errors, settings.max_error_rate)
    sides = drawn.split.without(errors, ()).sides()
    copies = _find_copies(collection, fingerprints, sides, labels, num_threads=num_threads)
    straddling = describe_straddling(collection.clips, drawn.split, labels)
    omitted = Omitted(collection.no_side, collection.unlabelled, len(copies.dropped), len(errors))
    # ``check_broken`` has named the broken clips already.
    left_out = dataclasses.replace(omitted, broken=0).lines(labels.split_by)
    split = drawn.split.without(errors, copies.dropped)
    said = (*notes, *broken, *copies.notes, *straddling, *left_out)
    return Usable(split, errors, copies.pairs, omitted, said)


def _find_copies(
    collection: Collection,
    fingerprints: AcousticFingerprints,
    sides: Mapping[str, Sequence[ClipId]],
    labels: LabelSettings,
    *,
    num_threads: int,
) -> Copies:
    """Return the copies on the sides of a split, unless the settings ignore them.

    Args:
        sides: the clips of each side by its name.
    """
    pairs = [] if labels.duplicates == "ignore" else find_duplicates(fingerprints, sides, num_threads)
    is_dropped = labels.duplicates == "drop"
    names = {clip: track.name for clip, track in collection.clips.items()}
    dropped = frozenset(pair.trained_on for pair in pairs) if is_dropped else frozenset[ClipId]()
    return Copies(tuple(pairs), dropped, describe_duplicates(pairs, names, is_dropped=is_dropped))


def plan_training(
    drawn: Drawn,
    model: ModelChoice,
    fingerprints: AcousticFingerprints,
    settings: TrainSettings,
    *,
    num_threads: int,
) -> TrainingPlan:
    """Return the plan of a training: everything that can be decided before the workers start.

    Args:
        fingerprints: of the decoded clips; two trainings on different splits of one listing share them.

    Raises:
        UsageError: the run would fail, or its result would be worthless.
        TooManyFailures: more clips are broken than ``max_error_rate`` allows.
    """
    collection, decoded = drawn.collection, fingerprints.clips
    notes = [model.head.note] if model.head.note else []
    errors = {clip: decoded.errors[clip] for clip in collection.clips if clip in decoded.errors}
    usable = find_usable(drawn, fingerprints, errors, settings, notes, num_threads=num_threads)
    classes = check_classes(collection.clips, usable.split, model.head.labels, is_multi=collection.is_multi)
    usable = dataclasses.replace(usable, notes=(*usable.notes, *classes))

    train, validation, test = (
        tuple(Example(clip, label_numbers(collection.clips[clip], model.head.labels)) for clip in side)
        for side in (usable.split.train, usable.split.validation, usable.split.test)
    )
    job = TrainingJob(
        settings,
        model.initial,
        model.head.labels,
        collection.is_multi,
        model.windows,
        train,
        validation,
        test,
        tuple(decoded.caches),
    )
    return usable.plan(job, collection, model.empty)


def plan_comparison(
    listing: Listing,
    initial: InitialModel,
    fingerprints: AcousticFingerprints,
    settings: TrainSettings,
    note: Callable[[str], None],
    *,
    num_threads: int,
) -> TrainingPlan | None:
    """Return a training on another split, where its figures are wanted beside those of ``settings``.

    Raises:
        UsageError: it was asked for by name, and cannot be made.
    """
    split_by = other_split(listing, settings)
    if split_by is None:
        return None
    labels = dataclasses.replace(settings.labels, split_by=split_by, group_by=None)
    settings = dataclasses.replace(settings, labels=labels)
    try:
        drawn = draw(listing.with_other_split(split_by), settings)
        model = choose_model(initial, drawn.collection, settings)
        # It may have clips that the first training does not.
        add_missing(fingerprints.clips, drawn.collection.refs, settings, num_threads=num_threads)
        return plan_training(drawn, model, fingerprints, settings, num_threads=num_threads)
    except UsageError as error:
        if settings.compare_split is not None:
            raise
        note(f"no comparison with the split {split_by}: {error.message}")
        return None


def other_split(listing: Listing, settings: TrainSettings) -> str | None:
    """Return the split on which a second run is made for its figures, or None for no second run."""
    if settings.compare_split == "none":
        return None
    if settings.compare_split is not None:
        return settings.compare_split
    # A random split of GTZAN is known to flatter: both figures are shown.
    if settings.labels.split_by == STRATIFIED and listing.is_gtzan:
        return FAULT_FILTERED
    return None


def settings_hash(job: TrainingJob, collection: Collection) -> str:
    """Return the settings hash, which leaves out ``UNDECIDING``."""
    facts: dict[str, Any] = dataclasses.asdict(job.settings)
    for name in UNDECIDING:
        del facts[name]
    # Clips are hashed by their positions in the collection, as in 0.1.0, so that its unfinished runs can be resumed.
    positions = {clip: place for place, clip in enumerate(collection.clips)}
    sides = [[positions[example.clip] for example in side] for side in (job.train, job.validation, job.test)]
    keys = [track.ref.track_key for track in collection.clips.values()]
    teacher = [] if job.soft is None else [job.soft.teacher]
    text = json.dumps([facts, job.labels, sides, keys, job.initial.name, *teacher], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
