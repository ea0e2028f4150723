"""Options that several exporters share are checked before anything is read."""

from __future__ import annotations

import dataclasses

import pytest

from tonearm.errors import UsageError
from tonearm.exports.exporter import check_score, head_by
from tonearm.heads import PUBLISHED

MOOD = dataclasses.replace(next(iter(PUBLISHED.values())), name="mood", prefix="mood")


def is_refused(score: float | None) -> bool:
    try:
        check_score(score)
    except UsageError:
        return True
    return False


def test_a_share_is_a_minimum_score() -> None:
    scores = (None, -1e-9, 0, 0.5, 1, 1 + 1e-9)
    assert [score for score in scores if not is_refused(score)] == [None, 0, 0.5, 1]


@pytest.mark.parametrize("score", [-0.1, 1.01, 50, float("nan")])
def test_a_minimum_score_that_no_score_can_have_is_refused(score: float) -> None:
    with pytest.raises(UsageError, match="expected a number between 0 and 1"):
        check_score(score)


def test_playlists_can_be_made_by_any_head_that_has_labels() -> None:
    embedding = dataclasses.replace(MOOD, name="space", prefix="space", activation="embedding")
    assert head_by("mood", [MOOD]) is MOOD
    assert head_by("genre", []).name == "genre"
    with pytest.raises(UsageError, match="got by = 'space', expected 'genre' or 'tag' or 'mood'"):
        head_by("space", [MOOD, embedding])
