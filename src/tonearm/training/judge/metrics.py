"""Metrics of scores against true labels, for windows and for tracks. The values equal scikit-learn's.

Letters in shapes: W windows, T tracks, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from tonearm.training.judge.predictions import Floats, Predictions

# As in the paper that ``calibration_error`` cites.
NUM_BINS = 15
# Distance that an AUC keeps from 0 and 1, where d-prime would be infinite.
SURE = 1e-9
CONFIDENCE = 0.95


def evaluate(
    predictions: Predictions, labels: Sequence[str], *, is_multi: bool, temperature: float = 1.0
) -> dict[str, Any]:
    """Return all figures, for windows and for tracks."""
    windows = predictions.window_scores(is_multi=is_multi, temperature=temperature)
    tracks = predictions.track_scores(is_multi=is_multi, temperature=temperature)
    return {
        "num_tracks": len(predictions.targets),
        "num_windows": len(predictions.logits),
        "track": figures_of(tracks, predictions.targets, labels, is_multi=is_multi),
        "window": figures_of(windows, predictions.targets[predictions.owner], labels, is_multi=is_multi),
    }


def figures_of(scores: Floats, targets: Floats, labels: Sequence[str], *, is_multi: bool) -> dict[str, Any]:
    """Return the figures of scores [N, L] against targets [N, L]."""
    if is_multi:
        figures = multi_label_figures(scores, targets) | {"per_class": _figures_per_tag(scores, targets, labels)}
    else:
        figures = _single_label_figures(scores, targets.argmax(axis=1), labels)
    return figures | {"ece": calibration_error(*confidence_of(scores, targets, is_multi=is_multi))}


def _single_label_figures(scores: Floats, truth: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    numbers = list(range(len(labels)))
    predicted = scores.argmax(axis=1)
    right = int((predicted == truth).sum())
    low, high = interval(right, len(truth))
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=numbers, zero_division=0)
    figures: dict[str, Any] = {
        "accuracy": right / len(truth),
        "accuracy_interval": [low, high],
        "macro_f1": macro_f1(truth, predicted, len(labels)),
        "confusion": confusion_matrix(truth, predicted, labels=numbers).tolist(),
        "per_class": {
            label: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, label in enumerate(labels)
        },
    }
    # With three labels or fewer it would always be 1.
    if len(labels) > 3:
        top_3 = np.argsort(-scores, axis=1, kind="stable")[:, :3]
        figures["top_3"] = float((top_3 == truth[:, None]).any(axis=1).mean())
    return figures


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], num_labels: int) -> float:
    return float(f1_score(truth, predicted, labels=list(range(num_labels)), average="macro", zero_division=0))


def multi_label_figures(scores: Floats, targets: Floats) -> dict[str, float]:
    """Return mAP, AUC and d-prime over the labels that some clips have and some do not."""
    truth = (targets >= 0.5).astype(int)
    # AUC is not defined for a label that every track has, or none.
    varied = (truth.min(axis=0) == 0) & (truth.max(axis=0) == 1)
    if not varied.any():
        return {"macro_map": 0.0, "micro_map": 0.0, "mean_auc": 0.5, "d_prime": 0.0, "num_labels": 0}
    auc = float(roc_auc_score(truth[:, varied], scores[:, varied], average="macro"))
    return {
        "macro_map": float(average_precision_score(truth[:, varied], scores[:, varied], average="macro")),
        "micro_map": float(average_precision_score(truth[:, varied], scores[:, varied], average="micro")),
        "mean_auc": auc,
        # From the mean AUC, as in AudioSet's papers (arXiv:1609.09430).
        "d_prime": float(np.sqrt(2.0) * norm.ppf(np.clip(auc, SURE, 1 - SURE))),
        "num_labels": int(varied.sum()),
    }


def _figures_per_tag(scores: Floats, targets: Floats, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    truth = (targets >= 0.5).astype(int)
    precision, recall, f1, support = precision_recall_fscore_support(truth, scores >= 0.5, zero_division=0)
    figures = {}
    for index, label in enumerate(labels):
        tag_figures: dict[str, float] = {
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "support": int(support[index]),
        }
        # Neither is defined for a tag that all clips have, or none.
        if 0 < support[index] < len(truth):
            tag_figures["average_precision"] = float(average_precision_score(truth[:, index], scores[:, index]))
            tag_figures["auc"] = float(roc_auc_score(truth[:, index], scores[:, index]))
        figures[label] = tag_figures
    return figures


def confidence_of(scores: Floats, targets: Floats, *, is_multi: bool) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the confidences of predictions and whether each is right, to judge calibration by.

    For a single label that is the highest score of each clip; for tags every score of a tag that varies.

    Args:
        scores, targets: [N, L].
    """
    truth = targets >= 0.5
    if not is_multi:
        predicted = scores.argmax(axis=1)
        return scores.max(axis=1), truth[np.arange(len(predicted)), predicted]
    varied = truth.any(axis=0) & ~truth.all(axis=0)
    return scores[:, varied].ravel(), truth[:, varied].ravel()


class Interval(NamedTuple):
    """The bounds of a share."""

    low: float
    high: float


def interval(right: int, total: int) -> Interval:
    """Return Wilson's 95% interval of a share."""
    bounds = binomtest(right, total).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(bounds.low), float(bounds.high))


def calibration_error(confidence: NDArray[Any], is_right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error over 15 bins of equal width (arXiv:1706.04599).

    Args:
        confidence: [N], the score of each prediction.
        is_right: [N].
    """
    return float(sum(share * abs(accuracy - mean) for share, mean, accuracy, _ in reliability(confidence, is_right)))


def reliability(
    confidence: NDArray[Any], is_right: NDArray[np.bool_]
) -> list[tuple[float, float, float, tuple[float, float]]]:
    """Return for each bin that is not empty its share, mean confidence, share of right predictions, and edges."""
    # Bins are closed on the right, as in the paper: a score of exactly 1 is in the last, and 0 in the first.
    edges = np.linspace(0, 1, NUM_BINS + 1)
    bin_numbers = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, NUM_BINS - 1)
    bins = []
    for number in range(NUM_BINS):
        in_bin = bin_numbers == number
        if in_bin.any():
            mean, accuracy = float(np.mean(confidence[in_bin])), float(np.mean(is_right[in_bin]))
            bins.append((float(in_bin.mean()), mean, accuracy, (float(edges[number]), float(edges[number + 1]))))
    return bins
