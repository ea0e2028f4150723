"""A model judged on a labelled collection, by the same decoding and scoring on Ray Data as tagging."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.distributed.cluster import session
from tonearm.distributed.tagging import plans
from tonearm.distributed.tagging.counters import counting
from tonearm.distributed.tagging.run import tracks_per_block
from tonearm.distributed.tagging.watch import RunFailure, explain_failures, report_progress
from tonearm.errors import CheckpointError, SourceError, TooManyFailures
from tonearm.models.calibration import read_sidecar, write_sidecar
from tonearm.models.exported.files import local_folder
from tonearm.planning import adoption
from tonearm.runs.manifest import manifest
from tonearm.runs.places import KEY
from tonearm.settings import LabelSettings, TagSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.storage.uris import shown
from tonearm.tagging import TagPlan
from tonearm.training.judge.evaluation import LEAST_FOR_CALIBRATION, Evaluation, judge
from tonearm.training.judge.predictions import Predictions
from tonearm.training.prepare import check_single, list_collection, only_labelled, target_of
from tonearm.watchers import Watcher
from tonearm.wording import counted

NUM_NAMED = 5


def evaluate(
    model: str,
    source: str,
    settings: TagSettings,
    labels: LabelSettings,
    watcher: Watcher,
    *,
    on: Sequence[str] = (),
    precision: float | None = None,
) -> Evaluation:
    """Judge a model.

    Args:
        settings: as for tagging; their genre model is ``model``, their tag model None.
        on: values of ``labels.split_by``; only the clips with these are judged.
        precision: fit a calibration for it.

    Raises:
        UsageError: a model or source that cannot be used, or labels that the model does not know.
        TooManyFailures: more clips failed than ``max_error_rate`` allows.
    """
    plan = adoption.planned(settings.models, settings.max_windows, settings.decode.max_scored_s)
    for line in plans.refused_claims(plan, [source]):
        watcher.waiting(line)
    (checkpoint,) = (each.checkpoint for each in plan.heads.values())
    collection = list_collection(source, labels)
    wanted = {value.casefold() for value in on}
    tracks = [track for track in collection.tracks if not on or (track.split or "").casefold() in wanted]
    num_named = len(tracks)
    tracks = list(only_labelled(source, tracks, collection.label_by, labels))
    if not tracks:
        values = ", ".join(sorted({track.split or "(none)" for track in collection.tracks})[:8])
        raise SourceError(f"no labelled clip to evaluate on in {shown(source)}; the values of the split are {values}")
    is_multi = checkpoint.multi_label if labels.multi_label is None else labels.multi_label
    targets = _targets(tracks, checkpoint.labels, checkpoint.name, is_multi=is_multi)
    if precision is not None and len(tracks) < LEAST_FOR_CALIBRATION:
        raise SourceError(
            f"got {counted(len(tracks), 'clip')} to calibrate on, expected at least {LEAST_FOR_CALIBRATION}"
        )
    by_key = _score(tracks, settings, plan, watcher)
    rows = [by_key[track.ref.track_key] for track in tracks]
    good = [number for number, row in enumerate(rows) if row["error_code"] is None]
    failed = _failed(tracks, rows, settings.max_error_rate)
    kept = [rows[number] for number in good]
    windows = [
        (number, start_s, logits)
        for number, row in enumerate(kept)
        for start_s, logits in zip(row["start_s"], np.reshape(row["logits"], (len(row["start_s"]), -1)), strict=True)
    ]
    found = Predictions.of(windows, targets[good], np.array(good))
    figures, fitted, calibrated = judge(found, checkpoint.labels, is_multi=is_multi, precision=precision)
    return Evaluation(
        checkpoint.name,
        shown(source),
        checkpoint.labels,
        is_multi,
        found,
        tuple(tracks[number].ref.uri for number in good),
        failed,
        figures,
        fitted,
        calibrated,
        num_named - len(tracks),
    )


def _failed(tracks: Sequence[LabelledTrack], rows: Sequence[Any], max_error_rate: float) -> dict[str, str]:
    """Return why tracks could not be scored, by URI; too many of them are refused."""
    failed = {
        track.ref.uri: f"{row['error_code']}: {row['error_message']}"
        for track, row in zip(tracks, rows, strict=True)
        if row["error_code"] is not None
    }
    if len(failed) > max_error_rate * len(tracks):
        uri, why = next(iter(failed.items()))
        raise TooManyFailures(
            f"{len(failed)} of {counted(len(tracks), 'clip')} failed (the first: {shown(uri)}: {why}), more than "
            f"--max-error-rate {max_error_rate:g} allows"
        )
    return failed


def store_calibration(model: str, evaluation: Evaluation) -> None:
    """Keep the fitted calibration in the model's folder, if it helps; else leave the folder as it is.

    Raises:
        CheckpointError: the model is no local folder.
    """
    if not evaluation.is_calibration_kept:
        return
    folder = local_folder(model)
    if folder is None:
        raise CheckpointError(f"a calibration is stored in the model's folder, and {model} is none; download it first")
    write_sidecar(folder, dataclasses.replace(read_sidecar(folder), calibration=evaluation.calibration))


def _targets(tracks: Sequence[LabelledTrack], labels: Sequence[str], name: str, *, is_multi: bool) -> NDArray[Any]:
    unknown = sorted({label for track in tracks for label in track.labels or ()} - set(labels))
    if unknown:
        raise SourceError(
            f"the collection has {counted(len(unknown), 'label')} that {name} does not know "
            f"({', '.join(unknown[:NUM_NAMED])}); "
            f"it knows {', '.join(labels[:NUM_NAMED])}{' ...' if len(labels) > NUM_NAMED else ''}"
        )
    if not is_multi:
        check_single(tracks)
    return np.array([target_of(track, labels) for track in tracks], np.float32)


def _score(tracks: Sequence[LabelledTrack], settings: TagSettings, plan: TagPlan, watcher: Watcher) -> dict[int, Any]:
    """Return a row of ``stages.LOGITS`` a track, by its key."""
    refs = [track.ref for track in tracks]
    listed = manifest.to_table(refs)
    plan = plans.prepared(plan, settings, refs, watcher)
    watcher.starting(len(tracks), 0)
    with session.session(settings.workers, verbose=settings.verbose) as layout, counting() as counters:
        # Ray Data takes seconds to import: ``session`` has begun to while Ray's processes started.
        from tonearm.distributed.tagging import pipeline

        rows: dict[int, Any] = {}
        with (
            pipeline.context(settings),
            explain_failures("the evaluation", RunFailure(counters)),
            report_progress(counters, watcher),
        ):
            per_block = tracks_per_block(len(tracks), layout)
            operators = pipeline.Operators.of(plans.settled(plan, layout), settings, layout, counters)
            for block in pipeline.score_windows(listed, operators, per_block):
                rows |= {row[KEY]: row for row in block.to_pylist()}
        return rows
