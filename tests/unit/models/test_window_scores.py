"""Scores that are not numbers are errors, and what breaks a batch fails alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tonearm.errors import ScoreError
from tonearm.models.window_scores import WindowScores, checked, score_apart


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_a_number_is_an_error_that_names_the_head(value: float) -> None:
    good = WindowScores(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
    assert checked("mood", good) is good
    outcome = checked("mood", WindowScores(np.float32([[0.0, value]]), good.embedding))
    assert isinstance(outcome, ScoreError)
    assert (outcome.code, outcome.message) == ("score_failed", "mood: the model gave a score that is not a number")


def test_one_item_that_breaks_a_batch_fails_alone_and_the_order_stays() -> None:
    batches: list[list[int]] = []

    def score(items: Sequence[int]) -> list[int]:
        batches.append([*items])
        if 3 in items:
            raise RuntimeError("too loud\nsomewhere in C++")
        return [10 * item for item in items]

    first, failed, last = score_apart("mood", [1, 3, 5], score)
    assert (first, last) == (10, 50) and batches == [[1, 3, 5], [1], [3], [5]]
    assert isinstance(failed, ScoreError) and failed.message == "mood: too loud"
    assert score_apart("mood", [1, 5], score) == [10, 50] and batches[4:] == [[1, 5]], "together where nothing breaks"
    assert score_apart("mood", [], score) == []


def test_a_bug_is_no_failed_track() -> None:
    with pytest.raises(KeyError):
        score_apart("mood", [1], lambda items: [{}[items[0]]])
