"""Figures that are no number are null in JSON, which has no NaN and no infinity."""

from __future__ import annotations

import json
import math

import pytest

from tonearm.training.judge.json_text import json_text


def test_figures_are_written_as_json_whatever_they_come_to() -> None:
    values = {"loss": math.nan, "curve": [(1, math.inf), (2, 0.5)], "settings": {"max_scored_s": -math.inf, "n": 3}}
    text = json_text(values)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "loss": None,
        "curve": [[1, None], [2, 0.5]],
        "settings": {"max_scored_s": None, "n": 3},
    }
