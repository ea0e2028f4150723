"""Add the requested fallback models to the heads' plans, and refuse those that do not fit before anything is scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tonearm.audio.windows import WindowPlan
from tonearm.errors import CheckpointError, UsageError
from tonearm.heads import FallbackSettings
from tonearm.models import calibration
from tonearm.models.calibration import Fallback
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint, resolve
from tonearm.models.window_plan import plan_windows
from tonearm.settings import ModelSettings
from tonearm.tagging.plan import FallbackPlan, HeadPlan, TagPlan, fallback_name
from tonearm.wording import counted, some

MAX_LABELS = 3


def with_fallbacks(
    plans: Mapping[str, HeadPlan],
    asked: Mapping[str, FallbackSettings],
    models: ModelSettings,
    revisions: Mapping[str, str] | None = None,
) -> dict[str, HeadPlan]:
    """Return the heads with the models that they fall back on.

    Args:
        asked: by head.
        revisions: commits of hub ids by ``fallback_name``, for those without one in ``asked``.

    Raises:
        UsageError: no such head, a head without labels or with calibrated scores, or a fallback that is the head's own
            model.
        CheckpointError: a fallback that cannot be used or has other labels, or no threshold: neither in ``asked`` nor
            in the files of the head's model.
    """
    for name in asked:
        if name not in plans:
            raise UsageError(f"got --fallback {name}=, expected a head of this run: {', '.join(plans)}")
    return {
        name: plan if name not in asked else _with_fallback(name, plan, asked[name], models, revisions or {})
        for name, plan in plans.items()
    }


def _with_fallback(
    name: str, plan: HeadPlan, asked: FallbackSettings, models: ModelSettings, revisions: Mapping[str, str]
) -> HeadPlan:
    checkpoint = plan.checkpoint
    if plan.head.activation == "embedding":
        raise UsageError(f"got --fallback {name}=, but {name} has an embedding alone, which is always its own model's")
    if models.calibrated and checkpoint.sidecar.calibration is not None:
        raise UsageError(
            f"got --calibrated and --fallback {name}=, but the calibration of {checkpoint.name} was fitted to its own "
            "scores alone; leave one of them out"
        )
    info = describe_checkpoint(asked.model, revision=asked.revision or revisions.get(fallback_name(name)))
    # A copy of the same folder under another name has the same revision.
    if info.revision == checkpoint.revision:
        raise UsageError(f"got --fallback {name}={asked.model}, which is the model of {name} itself; give its teacher")
    order = _label_order(name, checkpoint, info)
    threshold, share, chosen_for = _find_threshold(name, plan, asked)
    model = HeadPlan(plan.head, info, plan.windows, asked.model, models.runtime, models.precision)
    model = dataclasses.replace(model, windows=_windows_at_rate_of(name, plan, info))
    return dataclasses.replace(plan, fallback=FallbackPlan(model, threshold, order, share, chosen_for))


def _label_order(name: str, student: CheckpointInfo, teacher: CheckpointInfo) -> tuple[int, ...]:
    """Return the index, among the teacher's labels, of each label of the head's model.

    Raises:
        CheckpointError: they have different labels, or one gives a window a single label and the other any number.
    """
    missing = [label for label in student.labels if label not in teacher.labels]
    extra = [label for label in teacher.labels if label not in student.labels]
    if missing or extra:
        problems = [f"lacks {some(missing, MAX_LABELS)}"] if missing else []
        problems += [f"has {some(extra, MAX_LABELS)} besides"] if extra else []
        raise CheckpointError(
            f"--fallback {name}=: {teacher.name} {' and '.join(problems)}, expected the "
            f"{counted(len(student.labels), 'label')} of {student.name}; give the teacher that it was made with"
        )
    if student.multi_label != teacher.multi_label:
        kinds = [("any number of labels" if info.multi_label else "one label") for info in (teacher, student)]
        raise CheckpointError(
            f"--fallback {name}=: {teacher.name} gives a window {kinds[0]} and {student.name} {kinds[1]}; give a "
            "model of the same kind"
        )
    places = {label: place for place, label in enumerate(teacher.labels)}
    return tuple(places[label] for label in student.labels)


def _find_threshold(
    name: str, plan: HeadPlan, asked: FallbackSettings
) -> tuple[float, float | None, tuple[str, str] | None]:
    """Return the threshold, the share of windows below it, and the teacher that it was chosen with; None if unknown."""
    stored = calibration.read_fallback(resolve(plan.source, revision=plan.revision, patterns=[calibration.FILE]))
    if asked.threshold is not None:
        return asked.threshold, None if stored is None else share_below(asked.threshold, stored), None
    if stored is None:
        raise CheckpointError(
            f"--fallback {name}=: {plan.checkpoint.name} does not say when it is unsure; make a student that does with "
            f"`tonearm distill {asked.model} SOURCE --out STUDENT`, or give the score below which it is: --fallback "
            f"{name}={asked.model}:0.5"
        )
    return stored.chosen.threshold, stored.chosen.share_sent, (stored.teacher, stored.revision)


def share_below(threshold: float, stored: Fallback) -> float:
    """Return the share of windows below any threshold, interpolated between the points of a student's curve."""
    # The threshold that sends every window may lie just above 1; the curve's own end below stands for it.
    known = {(point.threshold, point.share_sent) for point in (stored.chosen, *stored.curve) if point.threshold < 1}
    thresholds, shares = zip(*sorted({(0.0, 0.0), *known, (1.0, 1.0)}), strict=True)
    return float(np.interp(threshold, thresholds, shares))


def _windows_at_rate_of(name: str, plan: HeadPlan, info: CheckpointInfo) -> WindowPlan:
    """Return the head's windows at another model's sample rate.

    Raises:
        CheckpointError: that model cannot take windows of this length.
    """
    head_windows, window_s = plan.windows, plan.window_s
    windows = plan_windows(info, window_s, head_windows.max_windows)
    # Rounding to whole samples at either rate may move the length by a sample; more means that the model cut it.
    if abs(windows.window_s - window_s) > 1.5 / info.sample_rate:
        raise CheckpointError(
            f"--fallback {name}=: {info.name} takes at most {windows.window_s:g} s at once, and the windows of "
            f"{plan.checkpoint.name} have {window_s:g} s; give {plan.head.setting('window_s')} = "
            f"{windows.window_s:g} in the settings file, or another model"
        )
    hop = max(1, round(head_windows.hop_samples * info.sample_rate / head_windows.sample_rate))
    return dataclasses.replace(windows, hop_samples=hop, max_windows=head_windows.max_windows)


def other_teachers(plan: TagPlan) -> list[str]:
    """Return a line for each fallback that is another model than the teacher that its threshold was chosen with."""
    lines = []
    for name, head in plan.heads.items():
        fallback = head.fallback
        if fallback is None or fallback.chosen_for is None:
            continue
        info, (teacher, revision) = fallback.model.checkpoint, fallback.chosen_for
        if revision != info.revision:
            lines.append(
                f"{name}: {head.checkpoint.name} asks below {fallback.threshold:g}, which was found with {teacher} "
                f"({revision[:19]}), not with {info.name} ({info.revision[:19]})"
            )
    return lines
