"""Fit a model's calibration: a temperature, and for each tag the score from which it is right often enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_curve

from tonearm.models.calibration import Calibration
from tonearm.training.judge.predictions import Predictions

LEAST_SCORE = 1e-7


def fit(predictions: Predictions, labels: Sequence[str], *, is_multi: bool, target_precision: float) -> Calibration:
    """Return the calibration for these tracks, which the model must not have been trained on.

    Args:
        target_precision: share of shown tags that should be right; ignored for a single label, which is always shown.
    """
    temperature = fit_temperature(predictions, is_multi=is_multi)
    thresholds: dict[str, float | None] = {}
    if is_multi:
        scores = predictions.track_scores(is_multi=True, temperature=temperature)
        truth = predictions.targets >= 0.5
        for index, label in enumerate(labels):
            thresholds[label] = threshold_for(scores[:, index], truth[:, index], target_precision)
    return Calibration(temperature, thresholds, target_precision)


def fit_temperature(predictions: Predictions, *, is_multi: bool) -> float:
    """Return the temperature that minimizes the log loss of the tracks' scores (arXiv:1706.04599)."""
    targets = predictions.targets.astype(np.float64)

    def loss(log_temperature: float) -> float:
        # On scores of tracks and not of windows: tagging shows the mean over windows, which is less confident.
        scores = predictions.track_scores(is_multi=is_multi, temperature=float(np.exp(log_temperature))).astype(
            np.float64
        )
        scores = np.clip(scores, LEAST_SCORE, 1 - LEAST_SCORE)
        losses = -targets * np.log(scores)
        if is_multi:
            losses -= (1 - targets) * np.log1p(-scores)
        return float(losses.mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def threshold_for(scores: NDArray[np.floating], truth: NDArray[np.bool_], target_precision: float) -> float | None:
    """Return the lowest score above which at least ``target_precision`` of the labels are right; None if there is none.

    Args:
        scores, truth: [T].
    """
    # A tag that no track has: no threshold can be shown to reach the target.
    if not truth.any():
        return None
    precisions, _, thresholds = precision_recall_curve(truth, scores)
    # scikit-learn appends a precision of 1 that belongs to no threshold.
    precise_enough = np.flatnonzero(precisions[:-1] >= target_precision)
    return float(thresholds[precise_enough[0]]) if len(precise_enough) else None
