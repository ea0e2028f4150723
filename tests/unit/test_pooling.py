"""Window scores to a track: means, best windows, the timeline."""

from __future__ import annotations

import numpy as np
import pytest

from tonearm.models.calibration import Calibration
from tonearm.models.classifier import WindowScores
from tonearm.models.pooling import pool_genre, pool_tags, sigmoid, softmax, timeline

LABELS = ("a", "b", "c")


def scores(logits: list[list[float]]) -> WindowScores:
    array = np.array(logits, np.float32)
    return WindowScores(array, np.arange(len(array) * 2, dtype=np.float32).reshape(len(array), 2))


def test_functions_are_stable_at_the_extremes() -> None:
    logits = np.array([[1e4, -1e4, 0.0]], np.float32)
    assert softmax(logits).tolist() == [[1.0, 0.0, 0.0]]
    assert sigmoid(logits).tolist() == [[1.0, 0.0, 0.5]]


def test_genre_is_the_mean_of_softmax_not_the_softmax_of_the_mean() -> None:
    # One window is sure of a, two lean to b: mean logits would give a.
    logits = [[9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    result = pool_genre(scores(logits), np.arange(3.0), LABELS)
    expected = softmax(np.array(logits, np.float32)).mean(axis=0)
    assert dict(result.scores) == pytest.approx(dict(zip(LABELS, expected.tolist(), strict=True)), abs=1e-6)
    assert result.label == result.scores[0][0]
    assert [score for _, score in result.scores] == sorted((score for _, score in result.scores), reverse=True)
    assert sum(score for _, score in result.scores) == pytest.approx(1.0, abs=1e-6)
    assert result.embedding.tolist() == [2.0, 3.0]


def test_tags_are_ranked_by_mean_and_name_their_best_window() -> None:
    result = pool_tags(scores([[0.0, -5.0, -9.0], [0.0, 6.0, -9.0]]), np.array([0.0, 10.24]), LABELS, top_k=2)
    assert [tag.label for tag in result.tags] == ["b", "a"]
    best = result.tags[0]
    assert best.max_start_s == 10.24
    assert best.max_score == pytest.approx(1 / (1 + np.exp(-6)), abs=1e-6)
    assert best.score == pytest.approx((1 / (1 + np.exp(5)) + 1 / (1 + np.exp(-6))) / 2, abs=1e-6)


def test_timeline_has_the_tags_grid_and_the_nearest_genre() -> None:
    genre = pool_genre(scores([[9, 0, 0], [0, 9, 0]]), np.array([0.0, 15.0]), LABELS)
    starts = np.array([0.0, 10.0, 20.0, 30.0, 35.0])
    tags = pool_tags(scores([[0, 1, 2]] * 5), starts, LABELS, top_k=3)
    rows = timeline(genre, tags, duration_s=45.0, genre_window_s=30.0, tag_window_s=10.0, top_k=1)
    assert [(row.start_s, row.end_s) for row in rows] == [(0, 10), (10, 20), (20, 30), (30, 40), (35, 45)]
    # The genre windows' centres are 15 and 30 s.
    assert [row.genre for row in rows] == ["a", "a", "b", "b", "b"]
    assert all(row.tags == (("c", pytest.approx(sigmoid(np.float32([2.0]))[0])),) for row in rows)


def test_timeline_without_tags_is_the_genres() -> None:
    genre = pool_genre(scores([[9, 0, 0], [0, 9, 0]]), np.array([0.0, 12.0]), LABELS)
    rows = timeline(genre, None, duration_s=20.0, genre_window_s=30.0, tag_window_s=None, top_k=3)
    assert [(row.start_s, row.end_s, row.genre, row.tags) for row in rows] == [(0, 20, "a", ()), (12, 20, "b", ())]


def test_a_temperature_flattens_scores_and_keeps_their_order() -> None:
    logits = scores([[4.0, 2.0, 0.0]])
    sharp, flat = (pool_genre(logits, np.zeros(1), LABELS, temperature=temperature) for temperature in (1.0, 2.0))
    assert [label for label, _ in sharp.scores] == [label for label, _ in flat.scores]
    assert dict(flat.scores) == pytest.approx(dict(zip(LABELS, softmax(logits.logits / 2)[0].tolist(), strict=True)))
    assert flat.score < sharp.score


def test_calibrated_tags_are_those_that_reach_their_own_thresholds() -> None:
    temperature, logits = 2.0, scores([[4.0, 2.0, 6.0], [4.0, 2.0, 6.0]])
    # As it is fitted: a threshold is a score of some track, rounded as scores are.
    threshold = float(sigmoid(logits.logits / np.float32(temperature)).mean(axis=0)[0])
    found = Calibration(temperature, {"a": threshold, "b": 0.9, "c": None}, 0.9)
    result = pool_tags(logits, np.zeros(2), LABELS, top_k=3, calibration=found)
    assert [(tag.label, tag.score) for tag in result.tags] == [("a", pytest.approx(threshold))]
