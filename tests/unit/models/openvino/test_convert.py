"""int8 is judged by first labels, and by each score where labels are read independently."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.converted import windows
from tonearm.models.openvino.cache import Converted, Int8Check
from tonearm.models.window_scores import WindowScores


@pytest.mark.processes
def test_the_guard_counts_first_labels_and_moves(form: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    from tonearm.models.openvino import convert

    class Says:
        def __init__(self, logits: list[list[float]]) -> None:
            self.rows = iter(np.array(logits, np.float32)[:, None])

        def run(self, window: NDArray[np.float32]) -> WindowScores:
            return WindowScores(next(self.rows), np.zeros((1, 1), np.float32))

    def judged(found: list[list[float]], *, is_multi: bool) -> Int8Check:
        said = {"fp32": [[2.0, 1.0]] * len(found), "int8": found}
        monkeypatch.setattr(convert, "OpenVinoRuntime", lambda form, precision, num_threads: Says(said[precision]))
        begun = Int8Check(8, len(found), 1.0, 0.0)
        return convert._verdict(begun, form, windows(len(found)), is_multi=is_multi, num_threads=1)

    assert judged([[2.0, 1.0]] * 100, is_multi=True).refused is None
    assert judged([[2.0, 1.0]] * 99 + [[1.0, 2.0]], is_multi=False).refused is None
    assert "98.0% of 100" in str(judged([[2.0, 1.0]] * 98 + [[1.0, 2.0]] * 2, is_multi=False).refused)
    far = [[2.0, 1.0]] * 99 + [[2.5, 1.0]]  # sigmoid(2.5) - sigmoid(2.0) = 0.043
    assert judged(far, is_multi=False).refused is None
    assert "moves by 0.043" in str(judged(far, is_multi=True).refused)
    # One verdict is kept for both readings of a checkpoint.
    verdict = judged(far, is_multi=False)
    assert verdict.refusal(is_multi=False) is None
    assert "moves by 0.043" in str(verdict.refusal(is_multi=True))
    assert Int8Check(8, 0, 1.0, 0.0).refusal(is_multi=True) is None
