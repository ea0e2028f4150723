"""A student's training planned before hours are spent: which recordings it learns from, and which it is judged by.

::

    list_library ─ Listing ─ draw_library ─ Drawn ─ the teacher scores, clips are decoded ─ plan_student ─ TrainingPlan
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.decode import DecodeRequest
from tonearm.audio.loader import TrackLoader
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.errors import SourceError, TrackError
from tonearm.settings import DistillSettings
from tonearm.sources.labelled import FOLDER
from tonearm.sources.reader import ObjectReader
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.uris import shown
from tonearm.training.data.clips import ClipSet
from tonearm.training.data.collection import ClipId, Collection, Drawn, Listing, assign_sides, label_numbers, list_clips
from tonearm.training.data.duplicates import AcousticFingerprints
from tonearm.training.data.splits import split_clips
from tonearm.training.fit.initial import choose_head
from tonearm.training.fit.job import Example, TrainingJob
from tonearm.training.fit.soft_targets import SoftTargets
from tonearm.training.plan import TrainingPlan, find_usable
from tonearm.training.teaching import Student, Teacher
from tonearm.wording import counted, hours


def list_library(source: str, settings: DistillSettings) -> Listing:
    """Return the tracks of a source, with their labels if it has any; training on a teacher's scores needs none.

    Raises:
        SourceError: the source is missing, or has no field that was named.
    """
    try:
        return list_clips(source, settings.labels)
    except SourceError:
        if settings.labels.label_by is not None:
            raise
        # Perhaps it is a table without a column of labels. For any other fault, this call raises the same error again.
        return list_clips(source, dataclasses.replace(settings.labels, label_by=FOLDER))


def draw_library(listing: Listing, teacher: Teacher, settings: DistillSettings) -> Drawn:
    """Return the recordings, and the split by whole recordings or whole groups of them; labels play no part in it.

    Raises:
        SourceError: a side would be empty.
    """
    if not listing.tracks:
        raise SourceError(f"{shown(listing.source)} lists no track; give a folder, a table or a bucket with audio")
    blind = {clip: dataclasses.replace(track, labels=()) for clip, track in listing.tracks.items()}
    sides, no_side = assign_sides(blind, settings.labels)
    clips = blind if sides is None else {clip: blind[clip] for clip in blind if clip in sides}
    collection = Collection(clips, sides, teacher.labels, teacher.is_multi, no_side, 0)
    return Drawn(collection, split_clips(clips, sides, settings.labels, settings.seed))


def check_truth(listing: Listing, teacher: Teacher, label_by: str | None) -> dict[ClipId, tuple[int, ...]]:
    """Return by clip the indices of the teacher's labels that the collection itself gives it; only clips with some.

    Raises:
        SourceError: ``label_by`` names a field in which none of the teacher's labels occurs.
    """
    truth = {
        clip: numbers
        for clip, track in listing.tracks.items()
        if (numbers := label_numbers(track, teacher.labels)) and (teacher.is_multi or len(numbers) == 1)
    }
    if label_by is not None and not truth:
        seen = sorted({label for track in listing.tracks.values() for label in track.labels or ()})
        raise SourceError(
            f"none of the labels by {label_by} ({', '.join(seen[:3]) or 'none'}) is one of {teacher.name}'s "
            f"({', '.join(teacher.labels[:3])}, ...); leave --label-by out, or name them alike"
        )
    return truth


def check_audio(refs: Iterable[TrackRef], windows: WindowPlan, settings: DistillSettings) -> None:
    """Decode tracks until ``least_audio_s`` is reached; in a large library the first few tracks are enough.

    Raises:
        SourceError: the library has less audio than that.
    """
    # One window per track, as only the track's duration is used here.
    request = DecodeRequest((windows.limited(1),), settings.decode.max_scored_s)
    total_s, count = 0.0, 0
    with DecodeSandbox(settings.decode) as sandbox:
        loader = TrackLoader(ObjectReader(settings.fetch), sandbox, request)
        for ref in refs:
            track = loader.load(ref)
            if not isinstance(track, TrackError):
                total_s, count = total_s + track.info.duration_s, count + 1
            if total_s >= settings.least_audio_s:
                return
    raise SourceError(
        f"got {hours(total_s)} of audio in {counted(count, 'track')} that can be decoded, expected at least "
        f"{hours(settings.least_audio_s)} for a student to learn from and be judged by; add tracks, or give "
        f"--set least_audio_s={max(1, int(total_s))} if you know that this is enough"
    )


def plan_student(
    drawn: Drawn,
    teacher: Teacher,
    student: Student,
    soft: SoftTargets,
    unscored: Mapping[ClipId, TrackError],
    clips: ClipSet,
    settings: DistillSettings,
    *,
    num_threads: int,
) -> TrainingPlan:
    """Return the training's plan: everything that can be decided before the workers start.

    Args:
        soft: the teacher's scores, labels in the teacher's order.
        unscored: the error of each clip that the teacher could not score.

    Raises:
        UsageError: what would make the run fail or its result worthless.
        TooManyFailures: more clips are broken than ``max_error_rate`` allows.
    """
    collection = drawn.collection
    head = choose_head(student.initial, teacher.labels, new_head=settings.new_head)
    notes = [head.note] if head.note else []
    soft = _in_student_order(soft, teacher.labels, head.labels)
    errors = {**unscored, **{clip: clips.errors[clip] for clip in collection.clips if clip in clips.errors}}
    for clip in collection.clips:
        if clip not in errors and not soft.fits(clip, _starts_s(clips, clip)):
            errors[clip] = TrackError("its windows are not those that the teacher has scored", code="score_failed")
    fingerprints = AcousticFingerprints(clips)
    usable = find_usable(drawn, fingerprints, errors, settings, notes, num_threads=num_threads)
    split = usable.split
    if not split.train:
        raise SourceError("no recording is left to learn from; see what was left out above, or change the split")
    train, validation, test = (
        tuple(Example(clip, ()) for clip in side) for side in (split.train, split.validation, split.test)
    )
    job = TrainingJob(
        settings,
        student.initial,
        head.labels,
        teacher.is_multi,
        student.windows,
        train,
        validation,
        test,
        tuple(clips.caches),
        soft,
    )
    return usable.plan(job, collection, student.empty)


def _starts_s(clips: ClipSet, clip: ClipId) -> NDArray[np.float64]:
    return clips.plan.starts(clips.clip(clip).stream.num_samples) / clips.plan.sample_rate


def _in_student_order(
    soft: SoftTargets, teacher_labels: tuple[str, ...], student_labels: tuple[str, ...]
) -> SoftTargets:
    """Return the scores in the order of the student's labels, which differs if the student keeps its classifier."""
    if teacher_labels == student_labels:
        return soft
    places = {label: index for index, label in enumerate(teacher_labels)}
    order = np.array([places[label] for label in student_labels])
    return dataclasses.replace(soft, scores=np.ascontiguousarray(soft.scores[:, order]))
