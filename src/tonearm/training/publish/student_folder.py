"""Write the folder of a distilled student: the model, and its figures beside its teacher's."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tonearm import __version__
from tonearm.models.calibration import Fallback, write_fallback
from tonearm.storage import filesystems
from tonearm.training.data.collection import ClipId
from tonearm.training.destination import CONFIG, METRICS
from tonearm.training.fit.result import Result
from tonearm.training.judge import metrics
from tonearm.training.judge.agreement import judge_agreement
from tonearm.training.judge.fallback import choose_fallback
from tonearm.training.judge.json_text import json_text
from tonearm.training.judge.pictures import write_curves
from tonearm.training.judge.predictions import Floats, Predictions, pool
from tonearm.training.plan import TrainingPlan
from tonearm.training.publish.card import Findings
from tonearm.training.publish.model_folder import facts_of, write_weights
from tonearm.training.publish.student_card import describe_recordings, write_student_card
from tonearm.training.teaching import Student, Teacher


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a student was trained on, by which teacher, and what the collection itself says of the clips.

    Attributes:
        source: the library.
        truth: indices of the teacher's labels that the collection itself gives clips; only clips with some.
        target_agreement: share of the windows whose first label is to be the teacher's, for ``choose_fallback``.
    """

    source: str
    teacher: Teacher
    student: Student
    truth: Mapping[ClipId, tuple[int, ...]]
    target_agreement: float


def write_student(out: str, plan: TrainingPlan, result: Result, lesson: Lesson) -> dict[str, Any]:
    """Write the student's folder to ``out``, a folder or an object store's prefix; return what metrics.json says.

    Raises:
        DestinationError: no space left, or a place that cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="tonearm-model-") as name:
        folder = Path(name)
        with filesystems.writing(name):
            facts = _write_files(folder, plan, result, lesson)
        filesystems.copy_files(folder, out, last=CONFIG)
    return facts


def _write_files(folder: Path, plan: TrainingPlan, result: Result, lesson: Lesson) -> dict[str, Any]:
    write_weights(folder, plan, result)
    figures = {
        side: _judge_side(predictions, plan, lesson)
        for side, predictions in sorted(result.predictions.items(), reverse=True)
    }
    fallback = _choose_fallback(result, lesson)
    if fallback is not None:
        write_fallback(folder, fallback)
    facts = facts_of(plan, result, Findings.of(plan, result, {}, lesson.source, []))
    facts["split"]["by"] = describe_recordings(plan)
    facts |= {
        "evaluation": figures,
        "teacher": _teacher_facts(lesson),
        "cost": costs(lesson),
        "fallback": None if fallback is None else fallback.facts(),
    }
    (folder / METRICS).write_text(json_text(facts))
    write_curves(folder / "curves.png", result.progress.losses, result.progress.evaluations)
    run = {**result.run, "tonearm": __version__}
    (folder / "README.md").write_text(write_student_card(plan, facts, run))
    return facts


def _teacher_facts(lesson: Lesson) -> dict[str, Any]:
    teacher = lesson.teacher
    return {
        "name": teacher.name,
        "revision": teacher.revision,
        "licence": teacher.licence,
        "sample_rate": teacher.windows.sample_rate,
        "window_s": teacher.windows.window_s,
        "hop_s": teacher.windows.hop_samples / teacher.windows.sample_rate,
    }


def costs(lesson: Lesson) -> dict[str, Any]:
    """Return both models' parameters and multiply-adds per window, and the ratio of these multiply-adds."""
    student, teacher = lesson.student.cost, lesson.teacher
    ratio = None if teacher.multiply_adds is None else teacher.multiply_adds / student.multiply_adds
    return {
        "window_s": lesson.student.windows.window_s,
        "student": {"num_parameters": student.num_parameters, "multiply_adds": student.multiply_adds},
        "teacher": {"num_parameters": teacher.num_parameters, "multiply_adds": teacher.multiply_adds},
        "times_less": ratio,
    }


def _judge_side(predictions: Predictions, plan: TrainingPlan, lesson: Lesson) -> dict[str, Any]:
    """Return the figures of one side; clips whose scores are not finite count only as ``num_failed``."""
    job = plan.job
    scored = predictions.scored()
    num_failed = len(predictions.clips) - len(scored)
    predictions = predictions.only(scored)
    if not len(scored):
        return {"num_tracks": 0, "num_failed": num_failed}
    taught = job.window_targets(predictions)
    clips = plan.collection.clips
    # A recording without a group is a group of its own; the NUL keeps it apart from groups of that name.
    groups = [clips[ClipId(int(clip))].group or f"\0{clip}" for clip in predictions.clips]
    figures = judge_agreement(predictions, taught, job.labels, is_multi=job.is_multi, groups=groups)
    return {**figures, "num_failed": num_failed, "truth": _judge_truth(predictions, taught, plan, lesson)}


def _judge_truth(predictions: Predictions, taught: Floats, plan: TrainingPlan, lesson: Lesson) -> dict[str, Any] | None:
    """Return the figures of student and teacher against the collection's own labels; None if no track has any."""
    job = plan.job
    # In the student's order of labels, which may be another one than the teacher's.
    places = [job.labels.index(label) for label in lesson.teacher.labels]
    rows = [row for row, clip in enumerate(predictions.clips) if int(clip) in lesson.truth]
    if not rows:
        return None
    targets = np.zeros((len(rows), len(job.labels)), np.float32)
    for target, row in zip(targets, rows, strict=True):
        target[[places[number] for number in lesson.truth[ClipId(int(predictions.clips[row]))]]] = 1
    known = sorted({places[number] for numbers in lesson.truth.values() for number in numbers})
    columns = known if job.is_multi else list(range(len(job.labels)))
    scores = {
        "student": predictions.track_scores(is_multi=job.is_multi)[rows],
        "teacher": pool(taught, predictions.owner, len(predictions.clips))[rows],
    }
    names = [job.labels[column] for column in columns]
    figures: dict[str, Any] = {"num_tracks": len(rows), "num_labels": len(known)}
    for who, track_scores in scores.items():
        first = track_scores[:, known].argmax(axis=1)
        right = int(targets[:, known][np.arange(len(rows)), first].sum())
        low, high = metrics.interval(right, len(rows))
        figures[who] = {
            **metrics.figures_of(track_scores[:, columns], targets[:, columns], names, is_multi=job.is_multi),
            # The highest among the labels that the collection has at all: others cannot be right here.
            "first_of_known": {"value": right / len(rows), "interval": [low, high]},
        }
    return figures


def _choose_fallback(result: Result, lesson: Lesson) -> Fallback | None:
    """Return when to ask the teacher; None if no held-out window was scored."""
    job = result.job
    # Chosen on validation windows where there are some, so that the test figures stay independent of the choice.
    predictions = result.predictions.get("validation") or result.predictions.get("test")
    if predictions is None or not len(predictions.scored()):
        return None
    predictions = predictions.only(predictions.scored())
    return choose_fallback(
        predictions.window_scores(is_multi=job.is_multi),
        job.window_targets(predictions),
        name=lesson.teacher.name,
        revision=lesson.teacher.revision,
        target_agreement=lesson.target_agreement,
    )
