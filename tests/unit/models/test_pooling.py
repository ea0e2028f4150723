"""Window scores to a track: means, best windows, the timeline."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tonearm.models import pooling
from tonearm.models.calibration import Calibration
from tonearm.models.pooling import pool_multi, pool_single, rank, sigmoid, softmax, timeline
from tonearm.models.window_scores import WindowScores

LABELS = ("a", "b", "c")
# Logits whose softmax, and whose sigmoid, are fractions that one can work out by hand.
LOG2, LOG3, LOG4 = np.log([2.0, 3.0, 4.0]).tolist()


def scores(logits: list[list[float]]) -> WindowScores:
    array = np.array(logits, np.float32)
    return WindowScores(array, np.arange(len(array) * 2, dtype=np.float32).reshape(len(array), 2))


def test_functions_are_stable_at_the_extremes() -> None:
    logits = np.array([[1e4, -1e4, 0.0]], np.float32)
    assert softmax(logits).tolist() == [[1.0, 0.0, 0.0]]
    assert sigmoid(logits).tolist() == [[1.0, 0.0, 0.5]]


def near(*values: float) -> object:
    return pytest.approx(list(values), abs=1e-6)


def test_softmax_shares_one_among_the_labels_of_each_window() -> None:
    logits = np.float32([[0, LOG2, 0], [LOG3, LOG4, 0]])
    found = softmax(logits)
    assert found.dtype == np.float32
    assert found[0].tolist() == near(1 / 4, 2 / 4, 1 / 4)
    assert found[1].tolist() == near(3 / 8, 4 / 8, 1 / 8)
    assert softmax(logits + np.float32(50))[1].tolist() == near(3 / 8, 4 / 8, 1 / 8)
    assert softmax(logits[1]).tolist() == near(3 / 8, 4 / 8, 1 / 8), "of one window"
    assert softmax(np.stack([logits, logits[::-1]])[:, :, :2])[1, 0].tolist() == near(3 / 7, 4 / 7), "of many tracks"


def test_sigmoid_is_of_each_label_alone() -> None:
    found = sigmoid(np.float32([[0, LOG2, LOG3], [-LOG2, -LOG3, LOG4]]))
    assert found.dtype == np.float32
    assert found[0].tolist() == near(1 / 2, 2 / 3, 3 / 4)
    assert found[1].tolist() == near(1 / 3, 1 / 4, 4 / 5)


@pytest.mark.parametrize(
    ("function", "means"),
    [
        ("softmax", [("b", (2 / 4 + 4 / 8) / 2), ("a", (1 / 4 + 3 / 8) / 2), ("c", (1 / 4 + 1 / 8) / 2)]),
        ("sigmoid", [("b", (2 / 3 + 4 / 5) / 2), ("a", (1 / 2 + 3 / 4) / 2), ("c", 1 / 2)]),
        ("none", [("b", (LOG2 + LOG4) / 2), ("a", LOG3 / 2), ("c", 0.0)]),
    ],
)
def test_every_label_is_ranked_by_its_mean_over_windows(function: str, means: list[tuple[str, float]]) -> None:
    found = rank(np.float32([[0, LOG2, 0], [LOG3, LOG4, 0]]), LABELS, function)
    assert [label for label, _ in found] == [label for label, _ in means]
    assert [score for _, score in found] == near(*(score for _, score in means))


def test_labels_that_tie_keep_the_order_of_the_model() -> None:
    logits = np.float32([[0, 1, 0], [0, 1, 0]])
    assert [label for label, _ in rank(logits, LABELS, "none")] == ["b", "a", "c"]
    tags = pool_multi(scores(logits.tolist()), np.zeros(2), LABELS, top_k=3)
    assert [tag.label for tag in tags.tags] == ["b", "a", "c"]


def test_genre_has_the_numbers_of_every_window() -> None:
    starts = np.array([0.0, 30.0])
    result = pool_single(scores([[0, LOG2, 0], [LOG3, LOG4, 0]]), starts, LABELS)
    assert (result.label, result.labels) == ("b", LABELS)
    assert result.score == pytest.approx(1 / 2, abs=1e-6)
    assert [label for label, _ in result.scores] == ["b", "a", "c"]
    assert [score for _, score in result.scores] == near(1 / 2, 5 / 16, 3 / 16)
    assert result.window_scores[1].tolist() == near(3 / 8, 4 / 8, 1 / 8)
    assert result.embedding.tolist() == [1.0, 2.0]
    assert result.embedding.dtype == np.float32
    assert result.start_s.tolist() == [0.0, 30.0]
    halved = pool_single(scores([[0, 2 * LOG2, 0]]), np.zeros(1), LABELS, temperature=2.0)
    assert [score for _, score in halved.scores] == near(2 / 4, 1 / 4, 1 / 4)


@pytest.mark.parametrize(("top_k", "labels"), [(0, []), (1, ["b"]), (2, ["b", "a"]), (3, ["b", "a", "c"])])
def test_tags_have_the_numbers_of_every_window_and_no_more_than_asked(top_k: int, labels: list[str]) -> None:
    starts = np.array([0.0, 10.0, 20.0])
    logits = [[0, LOG2, -LOG3], [LOG3, LOG4, -LOG3], [0, LOG3, -LOG3]]
    result = pool_multi(scores(logits), starts, LABELS, top_k=top_k)
    assert [tag.label for tag in result.tags] == labels
    by_hand = {
        "a": near((1 / 2 + 3 / 4 + 1 / 2) / 3, 3 / 4, 10.0),
        "b": near((2 / 3 + 4 / 5 + 3 / 4) / 3, 4 / 5, 10.0),
        "c": near(1 / 4, 1 / 4, 0.0),  # of windows that tie the first
    }
    for tag in result.tags:
        assert [tag.score, tag.max_score, tag.max_start_s] == by_hand[tag.label]
    assert result.window_scores[1].tolist() == near(3 / 4, 4 / 5, 1 / 4)
    assert result.embedding.tolist() == [2.0, 3.0]
    assert (result.labels, result.start_s.tolist()) == (LABELS, [0.0, 10.0, 20.0])


def test_genre_is_the_mean_of_softmax_not_the_softmax_of_the_mean() -> None:
    # One window is sure of a, two lean to b: mean logits would give a.
    logits = [[9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    result = pool_single(scores(logits), np.arange(3.0), LABELS)
    expected = softmax(np.array(logits, np.float32)).mean(axis=0)
    assert dict(result.scores) == pytest.approx(dict(zip(LABELS, expected.tolist(), strict=True)), abs=1e-6)
    assert result.label == result.scores[0][0]
    assert [score for _, score in result.scores] == sorted((score for _, score in result.scores), reverse=True)
    assert sum(score for _, score in result.scores) == pytest.approx(1.0, abs=1e-6)
    assert result.embedding.tolist() == [2.0, 3.0]


def test_tags_are_ranked_by_mean_and_name_their_best_window() -> None:
    result = pool_multi(scores([[0.0, -5.0, -9.0], [0.0, 6.0, -9.0]]), np.array([0.0, 10.24]), LABELS, top_k=2)
    assert [tag.label for tag in result.tags] == ["b", "a"]
    best = result.tags[0]
    assert best.max_start_s == 10.24
    assert best.max_score == pytest.approx(1 / (1 + np.exp(-6)), abs=1e-6)
    assert best.score == pytest.approx((1 / (1 + np.exp(5)) + 1 / (1 + np.exp(-6))) / 2, abs=1e-6)


def test_timeline_has_the_tags_grid_and_the_nearest_genre() -> None:
    genre = pool_single(scores([[9, 0, 0], [0, 9, 0]]), np.array([0.0, 15.0]), LABELS)
    starts = np.array([0.0, 10.0, 20.0, 30.0, 35.0])
    tags = pool_multi(scores([[0, 1, 2]] * 5), starts, LABELS, top_k=3)
    rows = timeline(genre, tags, duration_s=45.0, genre_window_s=30.0, tag_window_s=10.0, top_k=1)
    assert [(row.start_s, row.end_s) for row in rows] == [(0, 10), (10, 20), (20, 30), (30, 40), (35, 45)]
    # The genre windows' centres are 15 and 30 s.
    assert [row.genre for row in rows] == ["a", "a", "b", "b", "b"]
    assert all(row.tags == (("c", pytest.approx(sigmoid(np.float32([2.0]))[0])),) for row in rows)


def three_genres(starts: list[float]) -> pooling.SingleResult:
    """Return a genre whose windows are of a, of b and of c."""
    return pool_single(scores([[LOG2, 0, 0], [0, LOG3, 0], [0, 0, LOG4]]), np.array(starts), LABELS)


def test_each_stretch_has_the_genre_whose_centre_is_nearest_and_of_two_the_earlier() -> None:
    genre = three_genres([0.0, 10.0, 20.0])  # centres 5, 15 and 25
    starts = np.array([0.0, 3.0, 8.0, 8.25, 13.0, 18.0, 18.25, 26.0])  # centres 2, 5, 10, 10.25, 15, 20, 20.25, 28
    tags = pool_multi(scores([[0, number, 0] for number in range(8)]), starts, LABELS, top_k=3)
    rows = timeline(genre, tags, duration_s=30.0, genre_window_s=10.0, tag_window_s=4.0, top_k=2)
    assert [(row.start_s, row.end_s) for row in rows] == [(start, start + 4) for start in starts]
    assert [row.genre for row in rows] == ["a", "a", "a", "b", "b", "b", "c", "c"]
    own = {"a": 2 / 4, "b": 3 / 5, "c": 4 / 6}
    assert [row.genre_score for row in rows] == near(*(own[row.genre or ""] for row in rows))
    assert [[label for label, _ in row.tags] for row in rows] == [["a", "b"]] + [["b", "a"]] * 7
    assert [row.tags[0][1] for row in rows] == near(*(1 / (1 + np.exp(-number)) for number in range(8)))


def test_the_centre_of_a_window_that_the_track_cuts_short_is_of_what_is_left() -> None:
    genre = three_genres([0.0, 10.0, 20.0])  # to 27: centres 5, 15 and 23.5
    tags = pool_multi(scores([[0, 1, 0]] * 4), np.array([5.5, 17.0, 17.5, 25.0]), LABELS, top_k=1)
    rows = timeline(genre, tags, duration_s=27.0, genre_window_s=10.0, tag_window_s=4.0, top_k=1)
    assert [(row.end_s, row.genre) for row in rows] == [(9.5, "a"), (21.0, "b"), (21.5, "c"), (27.0, "c")]


def test_one_genre_window_is_that_of_every_stretch() -> None:
    genre = pool_single(scores([[0, LOG2, 0]]), np.zeros(1), LABELS)
    tags = pool_multi(scores([[0, 1, 0]] * 3), np.array([0.0, 10.0, 14.0]), LABELS, top_k=1)
    rows = timeline(genre, tags, duration_s=24.0, genre_window_s=30.0, tag_window_s=10.0, top_k=1)
    assert [(row.start_s, row.end_s, row.genre) for row in rows] == [(0, 10, "b"), (10, 20, "b"), (14, 24, "b")]


@pytest.mark.parametrize("genre_window_s", [None, 30.0])
def test_without_the_genre_head_no_stretch_has_a_genre(genre_window_s: float | None) -> None:
    tags = pool_multi(scores([[0, LOG2, LOG3]] * 2), np.array([0.0, 10.0]), LABELS, top_k=1)
    rows = timeline(None, tags, duration_s=16.0, genre_window_s=genre_window_s, tag_window_s=10.0, top_k=2)
    assert [(row.start_s, row.end_s, row.genre, row.genre_score) for row in rows] == [
        (0.0, 10.0, None, None),
        (10.0, 16.0, None, None),
    ]
    for row in rows:
        assert [label for label, _ in row.tags] == ["c", "b"]
        assert [score for _, score in row.tags] == near(3 / 4, 2 / 3)


def test_without_a_head_or_the_length_of_its_windows_there_is_no_timeline() -> None:
    genre = three_genres([0.0, 10.0, 20.0])
    tags = pool_multi(scores([[0, 1, 0]]), np.zeros(1), LABELS, top_k=1)
    lengths = {"duration_s": 30.0, "top_k": 1}
    assert timeline(None, None, genre_window_s=10.0, tag_window_s=10.0, **lengths) == ()
    assert timeline(genre, None, genre_window_s=None, tag_window_s=10.0, **lengths) == ()
    assert timeline(genre, tags, genre_window_s=10.0, tag_window_s=None, **lengths) == ()


def test_timeline_without_tags_is_the_genres() -> None:
    genre = pool_single(scores([[9, 0, 0], [0, 9, 0]]), np.array([0.0, 12.0]), LABELS)
    rows = timeline(genre, None, duration_s=20.0, genre_window_s=30.0, tag_window_s=None, top_k=3)
    assert [(row.start_s, row.end_s, row.genre, row.tags) for row in rows] == [(0, 20, "a", ()), (12, 20, "b", ())]


def test_a_temperature_flattens_scores_and_keeps_their_order() -> None:
    logits = scores([[4.0, 2.0, 0.0]])
    sharp, flat = (pool_single(logits, np.zeros(1), LABELS, temperature=temperature) for temperature in (1.0, 2.0))
    assert [label for label, _ in sharp.scores] == [label for label, _ in flat.scores]
    assert dict(flat.scores) == pytest.approx(dict(zip(LABELS, softmax(logits.logits / 2)[0].tolist(), strict=True)))
    assert flat.score < sharp.score


def test_calibrated_tags_are_those_that_reach_their_own_thresholds() -> None:
    temperature, logits = 2.0, scores([[4.0, 2.0, 6.0], [4.0, 2.0, 6.0]])
    # As it is fitted: a threshold is a score of some track, rounded as scores are.
    threshold = float(sigmoid(logits.logits / np.float32(temperature)).mean(axis=0)[0])
    found = Calibration(temperature, {"a": threshold, "b": 0.9, "c": None}, 0.9)
    result = pool_multi(logits, np.zeros(2), LABELS, top_k=3, calibration=found)
    assert [(tag.label, tag.score) for tag in result.tags] == [("a", pytest.approx(threshold))]


@pytest.mark.parametrize(
    ("threshold", "is_kept"), [(0.75, True), (np.nextafter(np.float32(0.75), 1), False), (None, False)]
)
def test_a_tag_is_kept_from_its_threshold_on(threshold: float | None, is_kept: bool) -> None:
    found = Calibration(1.0, {"a": 0.0, "b": threshold}, 0.9)  # nothing is known of c
    logits = np.float32([[-9.0, LOG3, 9.0]])
    assert sigmoid(logits)[0, 1] == np.float32(0.75)
    result = pool_multi(scores(logits.tolist()), np.zeros(1), LABELS, top_k=3, calibration=found)
    assert [tag.label for tag in result.tags] == (["b", "a"] if is_kept else ["a"])


def test_thresholds_are_asked_of_the_strongest_tags_only() -> None:
    found = Calibration(1.0, {"a": 0.1, "b": 0.99, "c": 0.1}, 0.9)
    result = pool_multi(scores([[0.0, 2.0, -1.0]]), np.zeros(1), LABELS, top_k=2, calibration=found)
    assert [tag.label for tag in result.tags] == ["a"]


def test_results_cannot_be_changed() -> None:
    genre = pool_single(scores([[1, 0, 0]]), np.zeros(1), LABELS)
    tags = pool_multi(scores([[1, 0, 0]]), np.zeros(1), LABELS, top_k=1)
    rows = timeline(genre, tags, duration_s=1.0, genre_window_s=1.0, tag_window_s=1.0, top_k=1)
    for result, name in ((genre, "label"), (tags, "tags"), (tags.tags[0], "score"), (rows[0], "genre")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, name, None)
