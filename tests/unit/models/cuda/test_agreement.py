"""The windows of a card's check tell passes apart, and the bounds lie where they are said to."""

from __future__ import annotations

import numpy as np
import pytest

from tonearm.models.cuda.agreement import (
    MOST_MOVE,
    NUM_WINDOWS,
    check_batches,
    check_windows,
    half_failure,
    replay_failure,
)
from tonearm.models.window_scores import WindowScores

LOGITS = np.array([[2.0, 0.0, -1.0], [-0.5, 0.5, 0.4]], np.float32)
EMBEDDING = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)


def scores(logits: np.ndarray = LOGITS, embedding: np.ndarray = EMBEDDING) -> WindowScores:
    return WindowScores(logits.astype(np.float32), embedding.astype(np.float32))


def test_the_windows_are_the_same_each_time_and_differ_from_each_other() -> None:
    windows = check_windows(16000)
    np.testing.assert_array_equal(windows, check_windows(16000))
    assert windows.dtype == np.float32 and np.isfinite(windows).all() and np.abs(windows).max() == 1.0
    assert len(np.unique(windows, axis=0)) == NUM_WINDOWS
    assert not windows[-1].any(), "silence"
    peaks = np.abs(windows[:-1]).max(axis=1)
    assert peaks.min() < 0.01, "quiet"
    assert ((np.abs(windows) == 1.0).mean(axis=1) > 0.3).any(), "clipped"


@pytest.mark.parametrize("num_windows", [1, 2, 3, 8, 16, 17, 40])
def test_no_place_of_both_batches_has_the_same_window(num_windows: int) -> None:
    """A graph that answers for the batch before would pass where it has."""
    first, second = check_batches(num_windows, 4000)
    assert first.shape == second.shape == (num_windows, 4000)
    assert (first != second).any(axis=1).all()


def test_half_precision_may_move_a_score_by_the_bound_and_no_more() -> None:
    def moved(by: float) -> WindowScores:
        probability = 1 / (1 + np.exp(-LOGITS[0, 1])) + by
        logits = LOGITS.copy()
        logits[0, 1] = np.log(probability / (1 - probability))
        return scores(logits)

    assert half_failure(moved(0.99 * MOST_MOVE), scores(), is_multi=True) is None
    assert half_failure(moved(1.01 * MOST_MOVE), scores(), is_multi=True) == (
        "a score moves by 0.030, expected at most 0.03"
    )


def test_another_first_label_is_wrong_only_where_fp32_is_sure() -> None:
    close = scores(np.array([[0.01, 0.0, -3.0]]), EMBEDDING[:1])
    other = scores(np.array([[0.0, 0.01, -3.0]]), EMBEDDING[:1])
    for is_multi in (False, True):
        assert half_failure(other, close, is_multi=is_multi) is None
    sure = scores(np.array([[0.0, -0.2, -3.0]]), EMBEDDING[:1])
    other = scores(np.array([[-0.1, 0.0, -3.0]]), EMBEDDING[:1])
    assert half_failure(other, sure, is_multi=False) == "1 of 1 test window get another first label"


def test_the_embedding_is_held_to_a_tenth_of_its_length() -> None:
    assert half_failure(scores(embedding=EMBEDDING * 1.09), scores(), is_multi=False) is None
    failure = half_failure(scores(embedding=EMBEDDING * 1.11), scores(), is_multi=False)
    assert failure == "an embedding is off by 11% of its length, expected at most 10%"


def test_a_model_without_labels_is_held_to_its_embedding() -> None:
    none = np.empty((2, 0))
    assert half_failure(scores(none), scores(none), is_multi=False) is None
    assert half_failure(scores(none, -EMBEDDING), scores(none), is_multi=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_wrong(value: float) -> None:
    logits, embedding = LOGITS.copy(), EMBEDDING.copy()
    logits[1, 2] = embedding[1, 1] = value
    for wrong in (scores(logits), scores(embedding=embedding)):
        assert half_failure(wrong, scores(), is_multi=True) == "its scores are not finite numbers"
        assert replay_failure(wrong, scores(), "fp16", others=scores(-LOGITS))


def test_a_replay_is_held_to_the_rounding_of_its_precision() -> None:
    others = scores(-LOGITS)
    for precision, most in (("fp16", 4e-3), ("bf16", 3e-2), ("fp32", 1e-4)):
        assert replay_failure(scores(LOGITS + 0.9 * most * 2.0), scores(), precision, others=others) is None
        failure = replay_failure(scores(LOGITS + 1.1 * most * 2.0), scores(), precision, others=others)
        assert failure is not None and failure.endswith(f"of the largest value, expected at most {most:g}")


def test_a_replay_of_what_is_not_finite_may_be_that_too() -> None:
    """Half precision is wrong then, and not the graph."""
    broken = LOGITS.copy()
    broken[0, 0] = np.nan
    assert replay_failure(scores(broken), scores(broken), "fp16", others=scores(-LOGITS)) is None
