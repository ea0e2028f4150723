"""A model judged on a labelled collection, by the same decoding and scoring on Ray Data as tagging.

Ray and scikit-learn, which take seconds to load, are loaded once the clips and the model are known to be of use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tonearm.distributed.tagging import plans
from tonearm.errors import CheckpointError, SourceError, TooManyFailures
from tonearm.models.calibration import read_sidecar, write_sidecar
from tonearm.models.exported.files import local_folder
from tonearm.planning import adoption
from tonearm.settings import LabelSettings, TagSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.storage.uris import shown
from tonearm.training.data.collection import ClipId, Listing, check_single, label_numbers, list_clips, only_labelled
from tonearm.training.judge.predictions import Predictions
from tonearm.watchers import Watcher
from tonearm.wording import counted

if TYPE_CHECKING:
    from tonearm.training.judge.evaluation import Evaluation

NUM_NAMED = 5
LEAST_FOR_CALIBRATION = 20


def evaluate(
    source: str,
    settings: TagSettings,
    labels: LabelSettings,
    watcher: Watcher,
    *,
    on: Sequence[str] = (),
    target_precision: float | None = None,
) -> Evaluation:
    """Judge a model.

    Args:
        settings: as for tagging; the model is that of their only head.
        on: values of ``labels.split_by``; only the clips with these are judged.
        target_precision: fit a calibration for it.

    Raises:
        UsageError: a model or source that cannot be used, or labels that the model does not know.
        TooManyFailures: more clips failed than ``max_error_rate`` allows.
    """
    listing = list_clips(source, labels)
    asked = {value.casefold() for value in on}
    named = {clip: track for clip, track in listing.tracks.items() if not on or (track.split or "").casefold() in asked}
    clips = only_labelled(listing, named, labels)
    _check_enough(clips, listing, target_precision)

    plan = adoption.planned(settings.models, settings.max_windows, settings.decode.max_scored_s)
    for line in plans.refused_claims(plan, [source]):
        watcher.waiting(line)
    ((name, head),) = plan.heads.items()
    checkpoint = head.checkpoint
    # The head of a model that is judged by itself says nothing of how many labels a clip has.
    is_multi = checkpoint.multi_label if head.head.is_published else head.head.is_multi
    is_multi = is_multi if labels.multi_label is None else labels.multi_label
    _check_labels(clips, checkpoint.labels, checkpoint.name, is_multi=is_multi)

    from tonearm.distributed.tagging.scored_clips import score_clips  # Ray

    rows = score_clips([track.ref for track in clips.values()], settings, plan, watcher)
    by_clip = {clip: rows[track.ref.track_key] for clip, track in clips.items()}
    failed = _failed(clips, by_clip, settings.max_error_rate)
    scored = [clip for clip, row in by_clip.items() if row["error_code"] is None]
    predictions = _predictions(scored, clips, by_clip, checkpoint.labels)

    from tonearm.training.judge.evaluation import Evaluation, judge  # scikit-learn

    figures, fitted, calibrated = judge(
        predictions, checkpoint.labels, is_multi=is_multi, target_precision=target_precision
    )
    return Evaluation(
        checkpoint.name,
        shown(source),
        checkpoint.labels,
        is_multi,
        predictions,
        tuple(clips[clip].ref.uri for clip in scored),
        failed,
        figures,
        fitted,
        calibrated,
        len(named) - len(clips),
        None if head.head.is_published else name,
    )


def _check_enough(clips: Mapping[ClipId, LabelledTrack], listing: Listing, target_precision: float | None) -> None:
    if not clips:
        values = ", ".join(sorted({track.split or "(none)" for track in listing.tracks.values()})[:8])
        raise SourceError(
            f"no labelled clip to evaluate on in {shown(listing.source)}; the values of the split are {values}"
        )
    if target_precision is not None and len(clips) < LEAST_FOR_CALIBRATION:
        raise SourceError(
            f"got {counted(len(clips), 'clip')} to calibrate on, expected at least {LEAST_FOR_CALIBRATION}"
        )


def _predictions(
    scored: Sequence[ClipId], clips: Mapping[ClipId, LabelledTrack], rows: Mapping[ClipId, Any], labels: Sequence[str]
) -> Predictions:
    """Return the logits in the rows of the clips that were scored, beside the true labels."""
    windows = [
        (number, start_s, logits)
        for number, row in enumerate(rows[clip] for clip in scored)
        for start_s, logits in zip(row["start_s"], np.reshape(row["logits"], (len(row["start_s"]), -1)), strict=True)
    ]
    targets = np.zeros((len(scored), len(labels)), np.float32)
    for row, clip in zip(targets, scored, strict=True):
        row[list(label_numbers(clips[clip], labels))] = 1
    return Predictions.of(windows, targets, scored)


def _failed(clips: Mapping[ClipId, LabelledTrack], rows: Mapping[ClipId, Any], max_error_rate: float) -> dict[str, str]:
    """Return why clips could not be scored, by URI; too many of them are refused."""
    failed = {
        track.ref.uri: f"{rows[clip]['error_code']}: {rows[clip]['error_message']}"
        for clip, track in clips.items()
        if rows[clip]["error_code"] is not None
    }
    if len(failed) > max_error_rate * len(clips):
        uri, why = next(iter(failed.items()))
        raise TooManyFailures(
            f"{len(failed)} of {counted(len(clips), 'clip')} failed (the first: {shown(uri)}: {why}), more than "
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


def _check_labels(clips: Mapping[ClipId, LabelledTrack], labels: Sequence[str], name: str, *, is_multi: bool) -> None:
    unknown = sorted({label for track in clips.values() for label in track.labels or ()} - set(labels))
    if unknown:
        raise SourceError(
            f"the collection has {counted(len(unknown), 'label')} that {name} does not know "
            f"({', '.join(unknown[:NUM_NAMED])}); "
            f"it knows {', '.join(labels[:NUM_NAMED])}{' ...' if len(labels) > NUM_NAMED else ''}"
        )
    if not is_multi:
        check_single(clips.values())
