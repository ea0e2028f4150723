"""Documents are printed as JSON that every reader takes."""

from __future__ import annotations

import json

import numpy as np

from tonearm.cli.output import json_text


def test_nan_becomes_null_in_json() -> None:
    """JSON knows neither NaN nor infinity, and numpy's numbers are numbers."""
    document = {"a": float("nan"), "b": np.float32(0.5), "c": np.arange(2), "d": (float("inf"), np.int64(3)), "e": None}
    assert json.loads(json_text(document)) == {"a": None, "b": 0.5, "c": [0, 1], "d": [None, 3], "e": None}
