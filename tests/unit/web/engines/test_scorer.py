"""A head on the server: windows of several requests are scored together, and each request fails for itself."""

from __future__ import annotations

import numpy as np

from tonearm import demo
from tonearm.errors import ScoreError
from tonearm.models.classifier import Classifier
from tonearm.models.window_scores import WindowScores
from tonearm.web.engines.batching import Chunk
from tonearm.web.engines.scorer import Scorer


def test_one_request_that_breaks_a_batch_fails_alone() -> None:
    head = Scorer.__new__(Scorer)  # without what it loads
    head.head, head.classifier = "genre", Classifier.load(demo.genre_model_path())
    score = head.classifier.score

    def fragile(windows: list[np.ndarray]) -> WindowScores:
        if any(np.abs(window).max() > 0.9 for window in windows):
            raise MemoryError  # which has no message
        return score(windows)

    head.classifier.score = fragile  # type: ignore[method-assign]
    good = Chunk(np.full((2, 16000), 1000, np.int16), 1 / 32768)
    bad = Chunk(np.full((1, 16000), 32000, np.int16), 1 / 32768)
    first, failed, last = head.score([good, bad, good])
    assert isinstance(first, WindowScores) and isinstance(last, WindowScores)
    assert len(first.logits) == len(last.logits) == 2
    assert isinstance(failed, ScoreError)
    assert failed.message == "genre: MemoryError"
