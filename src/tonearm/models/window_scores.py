"""The scores of windows, and what happens to a batch that cannot be scored; importing it loads no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import ScoreError, first_line

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class WindowScores:
    """A model's outputs for windows: logits float32 [windows, labels], embedding float32 [windows, dim].

    ``num_sent`` of the logits are those of a fallback.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    num_sent: int = 0


def checked(head: str, scores: WindowScores) -> WindowScores | ScoreError:
    """Return the scores, or an error if one is not a finite number; ``head`` is the model's name in the error."""
    if np.isfinite(scores.logits).all():
        return scores
    return ScoreError(f"{head}: the model gave a score that is not a number", code="score_failed")


def score_apart(head: str, items: Sequence[T], score: Callable[[Sequence[T]], Sequence[R]]) -> list[R | ScoreError]:
    """Return what ``score`` gives for ``items``, scored together if possible; an item that breaks it fails alone.

    Args:
        head: what errors call the model.
        score: scores some of the items, in order.
    """
    try:
        return [*score(items)]
    except (RuntimeError, ValueError, MemoryError) as error:
        # The windows of a single item may have broken the batch. Scored one by one, only that item fails.
        if len(items) <= 1:
            return [ScoreError(f"{head}: {first_line(error)}", code="score_failed") for _ in items]
        return [result for item in items for result in score_apart(head, [item], score)]
