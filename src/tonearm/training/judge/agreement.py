"""How far a student agrees with its teacher on recordings that it was not trained on.

Intervals are of a bootstrap over recordings, or over their groups: windows of one recording are not independent.

Letters in shapes: W windows, T tracks, L labels, R resamples.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tonearm.training.judge.predictions import Floats, Predictions, pool

NUM_RESAMPLES, SEED, TAILS = 400, 0, (0.025, 0.975)
# From this mean score on, a label counts as given to the track by a teacher whose labels are independent.
SAID_FROM = 0.1

Doubles = NDArray[np.float64]


def judge_agreement(
    predictions: Predictions, taught: Floats, labels: Sequence[str], *, is_multi: bool, groups: Sequence[str]
) -> dict[str, Any]:
    """Return agreement of the first label, mAP and Spearman's rank correlation against the teacher, with intervals.

    A track's scores are the means over its windows. For mAP the teacher's labels count as the truth: those that score
    ``SAID_FROM`` or more, or only the highest where a track has one label. A label that the teacher gives to no track,
    or to all, has no average precision.

    Args:
        taught: the teacher's probabilities of the same windows [W, L].
        groups: each track's group; tracks of a group are resampled together.
    """
    windows = predictions.window_scores(is_multi=is_multi)
    tracks = pool(windows, predictions.owner, len(predictions.clips))
    teacher = pool(taught, predictions.owner, len(predictions.clips))
    weights = resample(groups)  # [1 + R, T], the first row counts every track once
    is_given = teacher >= SAID_FROM if is_multi else teacher.argmax(axis=1)[:, None] == np.arange(len(labels))
    precision = np.full((len(weights), len(labels)), np.nan)
    correlation = np.full((len(weights), len(labels)), np.nan)
    for index in range(len(labels)):
        if 0 < is_given[:, index].sum() < len(is_given):
            precision[:, index] = average_precision(weights, tracks[:, index], is_given[:, index])
        correlation[:, index] = spearman(weights, tracks[:, index], teacher[:, index])
    is_judged = ~np.isnan(precision[0])
    of_windows = weights[:, predictions.owner]
    return {
        "num_tracks": len(tracks),
        "num_windows": len(windows),
        "first_label": {
            "track": _with_interval(_share_of_equal_first(weights, tracks, teacher)),
            "window": _with_interval(_share_of_equal_first(of_windows, windows, taught)),
        },
        "map": {
            **_with_interval(_mean_over_labels(precision)),
            "num_labels": int(is_judged.sum()),
            "said_from": SAID_FROM,
        },
        "spearman": {
            **_with_interval(_mean_over_labels(correlation)),
            "num_labels": int((~np.isnan(correlation[0])).sum()),
        },
        "spearman_of_said": {
            **_with_interval(_mean_over_labels(correlation[:, is_judged])),
            "num_labels": int(is_judged.sum()),
        },
        "per_label": {
            label: {
                "said": int(is_given[:, index].sum()),
                "average_precision": _with_interval(precision[:, index]),
                "spearman": _with_interval(correlation[:, index]),
            }
            for index, label in enumerate(labels)
        },
    }


def resample(groups: Sequence[str], num_resamples: int = NUM_RESAMPLES, seed: int = SEED) -> Doubles:
    """Return how often each track is in each resample [1 + R, T]; the first row is the sample itself."""
    names, owner = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), num_resamples)
    return np.concatenate([np.ones((1, len(groups))), counts[:, owner]])


def average_precision(weights: Doubles, scores: Floats, truth: NDArray[np.bool_]) -> Doubles:
    """Return scikit-learn's average precision [R] of scores [T] with each track as often as ``weights`` [R, T] say."""
    order = np.argsort(-scores, kind="stable")
    # Tracks of equal scores are taken together, as scikit-learn does.
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    taken = weights[:, order]
    right = np.cumsum(taken * truth[order], axis=1)[:, ends]
    total = np.cumsum(taken, axis=1)[:, ends]
    gained = np.diff(right, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(total > 0, right / total, 0.0)
        return (precision * gained).sum(axis=1) / right[:, -1]


def spearman(weights: Doubles, first: Floats, second: Floats) -> Doubles:
    """Return SciPy's ``spearmanr`` [R] of two lists [T] with each track as often as ``weights`` [R, T] say."""
    total = weights.sum(axis=1, keepdims=True)
    ranks = [_weighted_ranks(weights, values) for values in (first, second)]
    # Centred ranks: Spearman's correlation is Pearson's of the ranks.
    one, other = (rank - (weights * rank).sum(axis=1, keepdims=True) / total for rank in ranks)
    spread = np.sqrt((weights * one**2).sum(axis=1) * (weights * other**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (weights * one * other).sum(axis=1) / spread, np.nan)


def _weighted_ranks(weights: Doubles, values: Floats) -> Doubles:
    """Return the rank [R, T] of each value among those of the resample, the mean rank of equal ones."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    up_to = np.cumsum(weights[:, np.argsort(place, kind="stable")], axis=1)[:, np.cumsum(counts) - 1]
    below = np.concatenate([np.zeros((len(weights), 1)), up_to[:, :-1]], axis=1)
    ranks: Doubles = ((below + up_to + 1) / 2)[:, place]
    return ranks


def _share_of_equal_first(weights: Doubles, scores: Floats, others: Floats) -> Doubles:
    same = scores.argmax(axis=1) == others.argmax(axis=1)
    return (weights * same).sum(axis=1) / weights.sum(axis=1)


def _mean_over_labels(values: Doubles) -> Doubles:
    """Return the mean [R] over the labels that have a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without any label to judge
        return np.nanmean(values, axis=1) if values.shape[1] else np.full(len(values), np.nan)


def _with_interval(values: Doubles) -> dict[str, Any]:
    """Return the sample's value and its 95% interval, of the values [1 + R] of the sample and its resamples.

    The interval is bias-corrected (Efron 1981): of few tracks a resample has the same one several times, which an
    average precision takes for skill, and plain percentiles then lie above the value itself.
    """
    value, known = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value) or not len(known):
        return {"value": value, "interval": [np.nan, np.nan]}
    below = np.mean(known < value) + np.mean(known == value) / 2
    bias = norm.ppf(np.clip(below, 0.5 / len(known), 1 - 0.5 / len(known)))
    low, high = np.quantile(known, norm.cdf(2 * bias + norm.ppf(TAILS)))
    # Where no resample falls below the value, or none exceeds it, the interval ends at the value itself.
    return {"value": value, "interval": [float(min(low, value)), float(max(high, value))]}
