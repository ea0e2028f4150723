"""``models add``: labels that fit no output are refused for that, whatever else is left unsaid."""

from __future__ import annotations

from typing import Any

import pytest

from tonearm.errors import UsageError
from tonearm.models.exported.add import _complete

GRAPH = {
    "input": {"name": "wave", "shape": [15600]},
    "outputs": [{"name": "scores", "num_scores": 521, "ending": "independent"}],
}


@pytest.mark.parametrize(
    ("num_labels", "changes", "got"),
    [(3, {}, "got 3 labels"), (521, {"scores_output": 9}, "got --scores-output 9")],
)
def test_labels_that_fit_no_output_are_refused_for_that(num_labels: int, changes: dict[str, Any], got: str) -> None:
    """Three labels for 521 scores were answered with the advice to give --activation, which does not help."""
    values = {"labels": [f"label {number}" for number in range(num_labels)], "window_s": 1.0, **changes}
    with pytest.raises(UsageError, match=rf"^{got}, which no output fits; .*scores with 521 scores"):
        _complete(values, GRAPH, [])
