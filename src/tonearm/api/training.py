"""``tonearm.train``, ``distill`` and ``evaluate``: a model fitted to labels or to another model, and one judged."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

from tonearm import settings as settings_module
from tonearm.api import flags as flags_
from tonearm.api.flags import DistillFlags, Source, TrainFlags
from tonearm.api.progress import ProgressLine
from tonearm.api.training_progress import DistillingLine, TrainingLine
from tonearm.distributed.tagging import evaluate as evaluating
from tonearm.distributed.training import driver
from tonearm.distributed.training.driver import Trained
from tonearm.errors import UsageError
from tonearm.heads import HeadSettings, check_names, installed
from tonearm.models.exported.files import local_folder
from tonearm.runs.destination import check_form
from tonearm.settings import LabelSettings, TagSettings
from tonearm.sources.registry import check_extras
from tonearm.watchers import Watcher

if TYPE_CHECKING:
    from tonearm.training.judge.evaluation import Evaluation


class EvaluateFlags(TypedDict, total=False):
    """How an evaluation decodes and scores; as the flags of tagging.

    Attributes:
        max_error_rate: ``TooManyFailures`` where a larger share of the clips failed.
        config: a TOML file with settings of tagging.
    """

    max_windows: int | None
    workers: int | None
    precision: str | None
    max_error_rate: float | None
    config: Source | None
    verbose: bool | None


def train(
    source: Source,
    *,
    out: Source,
    overwrite: bool = False,
    watcher: Watcher | None = None,
    **flags: Unpack[TrainFlags],
) -> Trained:
    """Fine-tune a classifier on the labelled audio of ``source``: what ``tonearm train SOURCE --out OUT`` does.

    The same call resumes a training that was stopped.

    Args:
        source: a folder with a folder per class, a table, a saved data set or ``hf://datasets/OWNER/NAME``.
        out: a folder or object-store prefix for the model.
        overwrite: replace what is there.
        watcher: reports how it goes, instead of a progress line.
        flags: see ``api.flags.TrainFlags``.

    Raises:
        UsageError: a source, labels, settings or a cluster that cannot be used.
        Stopped: it ended early; the same call resumes it.
    """
    listed, target = flags_.place_of(source, "the source"), flags_.place_of(out, "out")
    check_extras([listed, target])
    settings = flags_.train_settings(flags)
    with contextlib.ExitStack() as stack:
        watcher = watcher or stack.enter_context(TrainingLine(settings.epochs))
        return driver.train(listed, target, settings, watcher, overwrite=overwrite)


def distill(
    teacher: Source,
    source: Source,
    *,
    out: Source,
    overwrite: bool = False,
    watcher: Watcher | None = None,
    **flags: Unpack[DistillFlags],
) -> Trained:
    """Train a small model on what a large one says: what ``tonearm distill TEACHER SOURCE --out OUT`` does.

    The same call resumes a distillation that was stopped.

    Args:
        teacher: any model: a folder, a hub id, an exported graph that is described.
        source: audio as for ``tag`` or ``train``; it needs no labels.
        out: a folder or object-store prefix for the student.
        overwrite: replace what is there.
        watcher: reports how it goes, instead of a progress line.
        flags: see ``api.flags.DistillFlags``.

    Raises:
        UsageError: a teacher without labels, a student that costs no less, too little audio, settings that cannot be
            used.
        TooManyFailures: more tracks failed than ``max_error_rate`` allows.
        Stopped: it ended early; the same call resumes it.
    """
    asked = flags_.place_of(teacher, "the teacher")
    listed, target = flags_.place_of(source, "the source"), flags_.place_of(out, "out")
    check_extras([listed, target])
    settings = flags_.distill_settings(flags)
    from tonearm.distributed.training import distill as distilling  # torch and Ray

    with contextlib.ExitStack() as stack:
        if watcher is None:
            scoring = stack.enter_context(ProgressLine("the teacher scores"))
            watcher = stack.enter_context(DistillingLine(settings.epochs, scoring))
        return distilling.distill(asked, listed, target, settings, watcher, overwrite=overwrite)


def evaluate(
    model: Source,
    source: Source,
    *,
    head: str | None = None,
    out: Source | None = None,
    label_by: str | None = None,
    multi_label: bool | None = None,
    skip_unlabelled: bool = False,
    split_by: str | None = None,
    on: Sequence[str] = (),
    calibrate: bool = False,
    wanted_precision: float = 0.9,
    watcher: Watcher | None = None,
    **flags: Unpack[EvaluateFlags],
) -> Evaluation:
    """Judge a model on the labelled audio of ``source``: what ``tonearm evaluate MODEL SOURCE`` does.

    Args:
        model: a folder or hub id; with ``head`` also ``FOLDER:single`` or ``FOLDER:multi``, as ``tag`` takes it, or
            ``""`` for the model of a package that brings the head along.
        head: judge it as the head of this name, with what that is: its kind says whether a clip has one label or any
            number, and by default the model's own config does.
        out: a folder for the figures, pictures and a list of the clips.
        label_by, multi_label, skip_unlabelled, split_by: see ``settings.LabelSettings``.
        on: only the clips with these values of ``split_by``.
        calibrate: fit a temperature and thresholds, and keep them with the model where they help.
        wanted_precision: for ``calibrate``: the share of shown tags that should be right.
        watcher: reports how it goes, instead of a progress line.
        flags: see ``EvaluateFlags``.

    Raises:
        UsageError: a model or source that cannot be used, or labels that the model does not know.
        TooManyFailures: more clips failed than ``max_error_rate`` allows.
    """
    listed, place = flags_.place_of(source, "the source"), None if out is None else flags_.place_of(out, "out")
    check_extras([listed, *([] if place is None else [place])])
    # As on the command line; not a number is in no range.
    is_number = isinstance(wanted_precision, int | float) and not isinstance(wanted_precision, bool)
    if not is_number or not 0.01 <= wanted_precision <= 1:
        raise UsageError(f"got wanted_precision={wanted_precision!r:.80}, expected a share from 0.01 to 1")
    asked = _asked(flags_.place_of(model, "the model"), head)
    name, settings = asked.model, _scoring_settings(asked.model, flags)
    settings = settings if head is None else _as_head(settings, head, asked, multi_label)
    if calibrate and local_folder(name) is None:
        raise UsageError(f"got --calibrate for {name}, which is no local folder to keep the calibration in")
    if on and split_by is None:
        raise UsageError("got --on without --split-by; give the field whose values these are")
    if place is not None:
        check_form(place, "--out")
    given = {"label_by": label_by, "multi_label": multi_label, "split_by": split_by}
    given |= {"skip_unlabelled": skip_unlabelled or None}
    labels = settings_module.build(LabelSettings, {key: value for key, value in given.items() if value is not None})
    target_precision = wanted_precision if calibrate else None
    with contextlib.ExitStack() as stack:
        watcher = watcher or stack.enter_context(ProgressLine("evaluating"))
        evaluation = evaluating.evaluate(listed, settings, labels, watcher, on=on, target_precision=target_precision)
        watcher.judged(evaluation)
        if calibrate:
            evaluating.store_calibration(name, evaluation)
        if place is not None:
            watcher.written(evaluation.write(place))
    return evaluation


def _asked(model: str, head: str | None) -> HeadSettings:
    """Return the model, with the kind that it has as a head; without a model that of the package that brings it."""
    if head is None:
        return HeadSettings(model)
    if not model and (brought := installed(head)) is not None:
        return brought
    return HeadSettings.parse(model, f"--head {head}")


def _as_head(settings: TagSettings, name: str, head: HeadSettings, multi_label: bool | None) -> TagSettings:
    """Return the settings with the model as the head of a name instead.

    Raises:
        UsageError: a head that gives no labels, or whose kind is not what ``multi_label`` says.
    """
    check_names([name])
    if head.activation == "embedding":
        raise UsageError(f"got --head {name} of the kind embedding, which says nothing of labels; give single or multi")
    if multi_label is not None and head.activation is not None and multi_label != (head.activation == "multi"):
        flag = "--multi-label" if multi_label else "--single-label"
        raise UsageError(f"got {flag} for --head {name} of the kind {head.activation}; leave one of them out")
    models = dataclasses.replace(settings.models, genre_model=None, heads={name: head})
    return dataclasses.replace(settings, models=models)


def _scoring_settings(model: str, flags: EvaluateFlags) -> TagSettings:
    """Return the settings of decoding and scoring for one model; what a file says of other models does not hold."""
    flags_.check_names("evaluate", flags, EvaluateFlags)
    settings = flags_.tag_settings({**flags, "genre_model": model, "tag_model": "none"})
    models = dataclasses.replace(settings.models, genre_revision=None, heads={}, calibrated=False)
    return dataclasses.replace(settings, models=models)
