"""From the scores of windows to the result of a track: labels, embeddings and timelines of each head.

Letters in shapes: W windows, L labels, D embedding dimensions.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from tonearm.heads import Activation
    from tonearm.models.calibration import Calibration
    from tonearm.models.window_scores import WindowScores

Floats = NDArray[np.float32]
Scored = tuple[str, float]


@dataclasses.dataclass(frozen=True)
class EmbeddingResult:
    """The result of a head without labels: the mean embedding over the windows, float32 [D]."""

    embedding: Floats


@dataclasses.dataclass(frozen=True)
class SingleResult(EmbeddingResult):
    """One label per track, such as its genre: the mean of its windows' softmax.

    ``scores`` has every label, descending; ``window_scores`` is [W, L] in ``labels`` order, ``start_s`` [W].
    """

    label: str
    score: float
    scores: tuple[Scored, ...]
    labels: tuple[str, ...]
    start_s: NDArray[np.float64]
    window_scores: Floats


@dataclasses.dataclass(frozen=True)
class Tag:
    """One tag of a track: the mean of its windows' sigmoid, and where it was strongest."""

    label: str
    score: float
    max_score: float
    max_start_s: float


@dataclasses.dataclass(frozen=True)
class MultiResult(EmbeddingResult):
    """The strongest labels of a track, descending by mean score; ``window_scores`` is [W, L] in ``labels`` order."""

    tags: tuple[Tag, ...]
    labels: tuple[str, ...]
    start_s: NDArray[np.float64]
    window_scores: Floats


@dataclasses.dataclass(frozen=True)
class HeadWindow:
    """One window of a head's timeline with its strongest labels, or the only one of a single-label head."""

    start_s: float
    end_s: float
    labels: tuple[Scored, ...]


@dataclasses.dataclass(frozen=True)
class TimelineRow:
    """One stretch of a track with its results of ``genre`` and ``tags``."""

    start_s: float
    end_s: float
    genre: str | None
    genre_score: float | None
    tags: tuple[Scored, ...]


def softmax(logits: Floats) -> Floats:
    """Return [..., L] probabilities that sum to one."""
    # The largest logit becomes 0, so that no exponential overflows; in float64, so that many labels still sum to one.
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)


def sigmoid(logits: Floats) -> Floats:
    """Return [..., L] independent probabilities."""
    # 0.5 (1 + tanh(x / 2)) is the sigmoid, without an exponential that overflows.
    return (0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def rank(logits: Floats, labels: tuple[str, ...], function: str) -> tuple[Scored, ...]:
    """Return every label with the mean over windows of its score, descending.

    For one window this equals the answer of ``transformers.pipeline("audio-classification")``.

    Args:
        logits: [W, L].
        function: ``softmax``, ``sigmoid`` or ``none``, which is the pipeline's ``function_to_apply``.
    """
    apply = {"softmax": softmax, "sigmoid": sigmoid, "none": lambda values: values}[function]
    return _ranked(apply(logits).mean(axis=0, dtype=np.float64), labels)


def _ranked(mean: NDArray[np.float64], labels: tuple[str, ...]) -> tuple[Scored, ...]:
    # Stable: labels with equal scores keep the model's order on every machine.
    return tuple((labels[index], float(mean[index])) for index in np.argsort(-mean, kind="stable"))


def pool(
    activation: Activation,
    scores: WindowScores,
    start_s: NDArray[np.float64],
    labels: tuple[str, ...],
    *,
    top_k: int,
    calibration: Calibration | None = None,
) -> EmbeddingResult:
    """Return a head's result for a track; see ``pool_single`` and ``pool_multi``."""
    if activation == "single":
        temperature = calibration.temperature if calibration is not None else 1.0
        return pool_single(scores, start_s, labels, temperature=temperature)
    if activation == "multi":
        return pool_multi(scores, start_s, labels, top_k=top_k, calibration=calibration)
    return EmbeddingResult(_mean(scores.embedding))


def pool_single(
    scores: WindowScores, start_s: NDArray[np.float64], labels: tuple[str, ...], *, temperature: float = 1.0
) -> SingleResult:
    """Return the label of a track; every window counts the same.

    Args:
        scores: logits [W, L] and embedding [W, D].
        start_s: [W].
        temperature: what the logits are divided by.
    """
    # The mean of softmax, not the softmax of mean logits: there one very sure window would outvote all others.
    windows = softmax(scores.logits / np.float32(temperature))
    ranked = _ranked(windows.mean(axis=0, dtype=np.float64), labels)
    return SingleResult(_mean(scores.embedding), *ranked[0], ranked, labels, start_s, windows)


def pool_multi(
    scores: WindowScores,
    start_s: NDArray[np.float64],
    labels: tuple[str, ...],
    *,
    top_k: int,
    calibration: Calibration | None = None,
) -> MultiResult:
    """Return the ``top_k`` tags of a track by mean score, each with its best window.

    Args:
        scores: logits [W, L] and embedding [W, D].
        start_s: [W].
        calibration: scores are at its temperature, and only tags that reach their thresholds are kept.
    """
    windows = sigmoid(scores.logits / np.float32(calibration.temperature if calibration is not None else 1.0))
    mean, best = windows.mean(axis=0, dtype=np.float64), windows.argmax(axis=0)
    tags = tuple(
        Tag(labels[index], float(mean[index]), float(windows[best[index], index]), float(start_s[best[index]]))
        for index in np.argsort(-mean, kind="stable")[:top_k]
        if calibration is None or _reaches(calibration.thresholds.get(labels[index]), float(mean[index]))
    )
    return MultiResult(_mean(scores.embedding), tags, labels, start_s, windows)


def _reaches(threshold: float | None, score: float) -> bool:
    # In float32, as scores are stored: a threshold is the rounded score of some track, which must reach it itself.
    return threshold is not None and bool(np.float32(score) >= np.float32(threshold))


def timeline(
    genre: SingleResult | None,
    tags: MultiResult | None,
    *,
    duration_s: float,
    genre_window_s: float | None,
    tag_window_s: float | None,
    top_k: int,
) -> tuple[TimelineRow, ...]:
    """Return one list on the grid of the tags' windows, or of the genre's if the head ``tags`` is off.

    Each row has the genre of the genre window whose centre is nearest to its own.
    """
    grid, window_s = (tags, tag_window_s) if tags is not None else (genre, genre_window_s)
    if grid is None or window_s is None:
        return ()
    ends_s = np.minimum(grid.start_s + window_s, duration_s)
    nearest = np.zeros(len(ends_s), np.int64)
    if genre is not None and genre_window_s is not None:
        genre_ends_s = np.minimum(genre.start_s + genre_window_s, duration_s)
        nearest = nearest_windows(np.stack([grid.start_s, ends_s], 1), np.stack([genre.start_s, genre_ends_s], 1))
    rows = []
    for index, (start_s, end_s) in enumerate(zip(grid.start_s, ends_s, strict=True)):
        label, score = (
            _top(genre.labels, genre.window_scores[nearest[index]], 1)[0] if genre is not None else (None, None)
        )
        best = _top(tags.labels, tags.window_scores[index], top_k) if tags is not None else ()
        rows.append(TimelineRow(float(start_s), float(end_s), label, score, best))
    return tuple(rows)


def own_timeline(result: EmbeddingResult, *, duration_s: float, window_s: float, top_k: int) -> tuple[HeadWindow, ...]:
    """Return a head's windows with their labels: the best one, or the ``top_k`` best of independent labels."""
    if not isinstance(result, SingleResult | MultiResult):
        return ()
    count = top_k if isinstance(result, MultiResult) else 1
    return tuple(
        HeadWindow(float(start_s), min(float(start_s) + window_s, duration_s), _top(result.labels, scores, count))
        for start_s, scores in zip(result.start_s, result.window_scores, strict=True)
    )


def nearest_windows(spans: ArrayLike, others: ArrayLike) -> NDArray[np.int64]:
    """Return int64 [W]: for each of ``spans`` [W, 2], start and end in seconds, which of ``others`` is nearest.

    The distance is between the centres; of two at the same distance in ``others`` [V, 2] the earlier one counts.
    """
    centres, other_centres = (
        np.asarray(edges_s, np.float64).reshape(-1, 2).sum(axis=1) / 2 for edges_s in (spans, others)
    )
    if len(other_centres) < 2:
        return np.zeros(len(centres), np.int64)
    right = np.clip(np.searchsorted(other_centres, centres), 1, len(other_centres) - 1)
    is_left = centres - other_centres[right - 1] <= other_centres[right] - centres
    return np.where(is_left, right - 1, right)


def _top(labels: tuple[str, ...], scores: Floats, count: int) -> tuple[Scored, ...]:
    return tuple((labels[index], float(scores[index])) for index in np.argsort(-scores, kind="stable")[:count])


def _mean(embedding: Floats) -> Floats:
    return embedding.mean(axis=0, dtype=np.float64).astype(np.float32)
