"""Find the windows that a head's model is unsure of, and merge in its fallback's scores of them.

Whether a window goes to the fallback must depend on the window alone, but the last bits of a score depend on the batch
that it was computed in. A window whose confidence is so near the threshold that these bits decide is scored again,
alone.

Letters in shapes: W windows, L labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tonearm.models import pooling
from tonearm.models.window_scores import WindowScores

Floats = NDArray[np.float32]

# How far a score may be from that of the same window in another batch, by number format.
NOISE = {"fp32": 1e-4, "fp16": 2e-3, "bf16": 1e-2, "int8": 2e-3}


def confidence(logits: Floats, *, is_multi: bool) -> NDArray[np.float64]:
    """Return the highest score of each window, float64 [W], as ``training.judge.fallback`` finds thresholds with it.

    Args:
        logits: [W, L].
        is_multi: whether the model that gave them means its labels independently.
    """
    scores = pooling.sigmoid(logits) if is_multi else pooling.softmax(logits)
    return scores.max(axis=1).astype(np.float64)


def unsure(
    logits: Floats, threshold: float, rescore: Callable[[int], Floats], *, is_multi: bool, precision: str
) -> NDArray[np.int64]:
    """Return which windows go to the fallback, int64, ascending.

    Args:
        logits: [W, L]; a window with a NaN among them is not sent on, and fails as it does without a fallback.
        threshold: a window goes to the fallback if its confidence is below this.
        rescore: returns the logits [1, L] of the window with this index, scored by itself.
        precision: the number format that the logits were computed in.
    """
    sure = confidence(logits, is_multi=is_multi)
    # With a threshold of 0 nothing is sent and with 1 nearly everything, so no window has to be scored again.
    if 0 < threshold < 1:
        for index in np.flatnonzero(np.abs(sure - threshold) < NOISE.get(precision, max(NOISE.values()))):
            sure[index] = confidence(rescore(int(index)), is_multi=is_multi)[0]
    return np.flatnonzero(sure < threshold)


def merged(scores: WindowScores, sent: NDArray[np.int64], logits: Floats) -> WindowScores:
    """Return the scores with other logits for the windows that were sent on; the embedding stays.

    Args:
        sent: indices of these windows.
        logits: [len(sent), L], in the order of the head's labels.
    """
    both = scores.logits.copy()
    both[sent] = logits
    return WindowScores(both, scores.embedding, len(sent))
