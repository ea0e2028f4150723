"""Evaluate a model's scores on labelled tracks: figures, pictures, a list of the tracks, a calibration.

Letters in shapes: T tracks, L labels.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.models.calibration import Calibration
from tonearm.storage import filesystems
from tonearm.training.judge import calibration, metrics
from tonearm.training.judge.json_text import json_text
from tonearm.training.judge.pictures import write_confusion, write_reliability
from tonearm.training.judge.predictions import Predictions
from tonearm.wording import counted

HALVES_SEED = 0


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The evaluation of a model on labelled tracks.

    Attributes:
        uris: [T], the URIs of the tracks in ``predictions``.
        failed: ``uri -> reason`` for tracks that could not be scored.
        calibration: fitted on all tracks; None if it was not requested.
        calibrated: the figures with a calibration of which each half of the tracks was scored by the other half's.
        unlabelled: number of clips that were left out because they have no label.
        head: the head's name, if the model was given as a head.
    """

    model: str
    source: str
    labels: tuple[str, ...]
    is_multi: bool
    predictions: Predictions
    uris: tuple[str, ...]
    failed: Mapping[str, str]
    figures: dict[str, Any]
    calibration: Calibration | None
    calibrated: dict[str, Any] | None
    unlabelled: int = 0
    head: str | None = None

    @property
    def is_calibration_kept(self) -> bool:
        """Whether the calibration lowers the calibration error (ECE) on tracks that it was not fitted on."""
        if self.calibration is None or self.calibrated is None:
            return False
        after, before = self.calibrated["track"]["ece"], self.figures["track"]["ece"]
        return bool(after < before)

    def write(self, out: str) -> list[str]:
        """Write it as ``write_evaluation`` does."""
        return write_evaluation(out, self)


def judge(
    predictions: Predictions, labels: Sequence[str], *, is_multi: bool, target_precision: float | None
) -> tuple[dict[str, Any], Calibration | None, dict[str, Any] | None]:
    """Return the figures and, with a ``target_precision``, the calibration and the figures with calibration.

    The latter are cross-fitted: each half of the tracks is scored at a temperature fitted on the other half.
    """
    figures = metrics.evaluate(predictions, labels, is_multi=is_multi)
    if target_precision is None:
        return figures, None, None
    fitted = calibration.fit(predictions, labels, is_multi=is_multi, target_precision=target_precision)
    scores = cross_fitted_scores(predictions, is_multi=is_multi)
    after = metrics.figures_of(scores, predictions.targets, labels, is_multi=is_multi)
    return figures, fitted, {"track": after}


def cross_fitted_scores(predictions: Predictions, *, is_multi: bool) -> NDArray[np.float32]:
    """Return track scores [T, L], each half of the tracks at a temperature fitted on the other half."""
    order = np.random.default_rng(HALVES_SEED).permutation(len(predictions.targets))
    scores = np.empty_like(predictions.targets)
    for half, other in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        # On the tracks that it was fitted on, a temperature would always seem to help.
        temperature = calibration.fit_temperature(predictions.only(other), is_multi=is_multi)
        scores[half] = predictions.track_scores(is_multi=is_multi, temperature=temperature)[half]
    return scores


def write_evaluation(out: str, evaluation: Evaluation) -> list[str]:
    """Write evaluation.json, predictions.csv and the pictures to a folder or prefix; return their names.

    Raises:
        DestinationError: it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="tonearm-evaluation-") as name:
        folder = Path(name)
        with filesystems.writing(name):
            (folder / "evaluation.json").write_text(json_text(_facts_of(evaluation)))
            (folder / "predictions.csv").write_text(_csv_text(evaluation))
            track = evaluation.figures["track"]
            if not evaluation.is_multi:
                title = (
                    f"{evaluation.model}: accuracy {track['accuracy']:.3f} on {counted(len(evaluation.uris), 'track')}"
                )
                write_confusion(folder / "confusion.png", track["confusion"], evaluation.labels, title=title)
            write_reliability(folder / "reliability.png", _reliability_curves(evaluation), title=evaluation.model)
        return filesystems.copy_files(folder, out)


def _reliability_curves(evaluation: Evaluation) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]:
    predictions, is_multi = evaluation.predictions, evaluation.is_multi
    sides = {"scores": predictions.track_scores(is_multi=is_multi)}
    if evaluation.calibration is not None:
        sides["with a temperature"] = cross_fitted_scores(predictions, is_multi=is_multi)
    return {
        name: metrics.confidence_of(scores, predictions.targets, is_multi=is_multi) for name, scores in sides.items()
    }


def _facts_of(evaluation: Evaluation) -> dict[str, Any]:
    fitted = evaluation.calibration
    return {
        "model": evaluation.model,
        **({} if evaluation.head is None else {"head": evaluation.head}),
        "source": evaluation.source,
        "labels": list(evaluation.labels),
        "is_multi": evaluation.is_multi,
        **evaluation.figures,
        "failed": dict(evaluation.failed),
        "unlabelled": evaluation.unlabelled,
        "calibration": fitted.facts() if fitted is not None and evaluation.is_calibration_kept else None,
        "calibrated": evaluation.calibrated,
    }


def _csv_text(evaluation: Evaluation) -> str:
    """Return a CSV with a row per track: true labels, prediction and scores; sorted, it shows the mistakes."""
    scores = evaluation.predictions.track_scores(is_multi=evaluation.is_multi)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["uri", "true", "said", "score", "score_of_true"])
    for uri, row, target in zip(evaluation.uris, scores, evaluation.predictions.targets, strict=True):
        best = int(row.argmax())
        true = [index for index in range(len(row)) if target[index] >= 0.5]
        # ";" separates labels here as in the tables that labels are read from.
        labels = ";".join(evaluation.labels[index] for index in true)
        likely = ";".join(f"{row[index]:.4f}" for index in true)
        writer.writerow([uri, labels, evaluation.labels[best], f"{row[best]:.4f}", likely])
    return text.getvalue()
