"""Distillation from a teacher and a library to the student's folder, step by step.

::

    tonearm distill TEACHER SOURCE --out OUT

    CACHE/teachers/KEY/*.parquet     the teacher's logits, once (``teacher``)
    OUT/.training/HASH/              the last two snapshots, as of any training
    OUT/config.json ...              the finished student

Started again after an interruption, the same command scores what is left, then resumes from the last snapshot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tonearm.distributed.cluster.session import training_session
from tonearm.distributed.tagging import plans
from tonearm.distributed.training import execution
from tonearm.distributed.training.driver import Trained, check_beforehand, with_whole_path
from tonearm.distributed.training.teacher import TeacherScores, score_library
from tonearm.errors import SourceError, TrackError
from tonearm.heads import HeadSettings
from tonearm.models.pooling import sigmoid, softmax
from tonearm.models.runtimes import usable_cores
from tonearm.planning import adoption
from tonearm.runs.lock import run_lock
from tonearm.settings import DistillSettings, ModelSettings, TagSettings
from tonearm.surroundings import cache_folder
from tonearm.training.data.clips import open_clips
from tonearm.training.data.collection import ClipId, Drawn
from tonearm.training.destination import check_empty, claimed, find_finished
from tonearm.training.fit.recipe import check_precision
from tonearm.training.fit.soft_targets import SoftTargets
from tonearm.training.plan import TrainingPlan
from tonearm.training.publish.student_folder import Lesson, write_student
from tonearm.training.student_plan import check_audio, check_truth, draw_library, list_library, plan_student
from tonearm.training.teaching import Teacher, read_student, read_teacher
from tonearm.watchers import Watcher

HEAD = "teacher"


def distill(
    model: str, source: str, out: str, settings: DistillSettings, watcher: Watcher, *, overwrite: bool = False
) -> Trained:
    """Train a student on what ``model`` says of the audio of ``source``, and write it to ``out``.

    Raises:
        UsageError: anything that can be known to fail before hours are spent: no labels, a student that costs no less
            than its teacher, too little audio.
        TooManyFailures: more tracks failed than ``max_error_rate`` allows.
        TrainingError: the loss is no number any more; the last good snapshot stays in ``out``.
        Stopped: it ended early; the same call resumes it.
    """
    check_beforehand(settings, out)
    settings = with_whole_path(settings)
    check_empty(out, overwrite)
    scoring = _teacher_settings(model, settings)
    plan = adoption.planned(scoring.models, settings.max_windows, settings.decode.max_scored_s)
    for line in plans.refused_claims(plan, [source]):
        watcher.note(line)
    head = plan.heads[HEAD]
    teacher = read_teacher(model, head.checkpoint, head.windows)
    student, settings = read_student(teacher, settings)

    listing = list_library(source, settings)
    drawn = draw_library(listing, teacher, settings)
    truth = check_truth(listing, teacher, settings.labels.label_by)
    refs = drawn.collection.refs
    check_audio(refs.values(), head.windows, settings)

    base = Path(settings.cache) if settings.cache is not None else cache_folder()
    scores = score_library(base, list(refs.values()), scoring, plan, watcher)
    soft, unscored = _soft_targets(scores, drawn, teacher, scoring)
    clips = open_clips([refs], student.windows, settings, num_threads=usable_cores(), progress=watcher.decoding)
    planned = plan_student(drawn, teacher, student, soft, unscored, clips, settings, num_threads=usable_cores())
    lesson = Lesson(source, teacher, student, truth, settings.target_agreement)
    done = find_finished(out, planned, overwrite)
    if done is not None:
        return Trained(out, done, is_new=False)
    with claimed(out, planned, watcher, overwrite=overwrite) as claim:
        if claim.done is not None:
            return Trained(out, claim.done, is_new=False)
        facts = _train_and_write(out, planned, lesson, watcher, claim.hold)
    return Trained(out, facts, is_new=True)


def _teacher_settings(model: str, settings: DistillSettings) -> TagSettings:
    """Return the settings by which the teacher scores: those of tagging with it as the only head."""
    heads = {HEAD: HeadSettings(model, window_s=settings.window_s)}
    models = ModelSettings(genre_model=None, tag_model=None, heads=heads, precision=settings.teacher_precision)
    return TagSettings(
        models,
        settings.fetch,
        settings.decode,
        max_windows=settings.max_windows,
        workers=settings.workers,
        verbose=settings.verbose,
    )


def _soft_targets(
    scores: TeacherScores, drawn: Drawn, teacher: Teacher, scoring: TagSettings
) -> tuple[SoftTargets, Mapping[ClipId, TrackError]]:
    """Return the teacher's scores as probabilities, and by clip the error of those that it could not score."""
    clips = drawn.collection.clips
    logits_of = {clip: scores.windows.get(track.ref.track_key) for clip, track in clips.items()}
    windows = {
        clip: (logits.start_s, (sigmoid if teacher.is_multi else softmax)(logits.logits))
        for clip, logits in logits_of.items()
        if logits is not None
    }
    unscored = {clip: scores.errors[track.ref.track_key] for clip, track in clips.items() if logits_of[clip] is None}
    if not windows:
        first = next(iter(unscored.values()))
        raise SourceError(f"the teacher could score none of the tracks (the first: {first.message})")
    name = (teacher.name, teacher.revision, scoring.models.precision, str(dataclasses.astuple(teacher.windows)))
    return SoftTargets.of(name, windows), unscored


def _train_and_write(
    out: str, plan: TrainingPlan, lesson: Lesson, watcher: Watcher, hold: run_lock.Hold
) -> dict[str, Any]:
    """Train the student and write its folder; return what metrics.json says."""
    settings = plan.job.settings
    with training_session(settings.workers, verbose=settings.verbose) as layout:
        check_precision(settings.precision, is_gpu=layout.use_gpu)
        result = execution.fit(out, plan, layout, watcher, hold, name=Path(out).name)
    hold.check()
    return write_student(out, plan, result, lesson)
