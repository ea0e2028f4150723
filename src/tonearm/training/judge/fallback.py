"""The confidence below which a student's teacher should be asked, chosen on held-out windows.

Letters in shapes: W windows, L labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tonearm.models.calibration import Fallback, Point
from tonearm.training.judge.predictions import Floats

# The shares of windows sent on for which the stored curve has a point.
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75)


def choose_fallback(student: Floats, teacher: Floats, *, name: str, revision: str, target_agreement: float) -> Fallback:
    """Return the lowest threshold at which first labels agree often enough, all windows counted.

    Args:
        student, teacher: probabilities [W, L] of the same windows.
        name, revision: of the teacher.
    """
    confidence = student.max(axis=1).astype(np.float64)
    agrees = student.argmax(axis=1) == teacher.argmax(axis=1)
    # Each window's own confidence sends those below it; the last candidate sends all.
    candidates = np.unique([0.0, *confidence, np.nextafter(confidence.max(), np.inf)])
    chosen = next(
        point
        for threshold in candidates
        if (point := point_at(float(threshold), confidence, agrees)).agreement >= target_agreement
    )
    curve = tuple(point_at(float(np.quantile(confidence, share)), confidence, agrees) for share in SHARES)
    return Fallback(name, revision, target_agreement, chosen, curve, len(confidence))


def point_at(threshold: float, confidence: NDArray[np.float64], agrees: NDArray[np.bool_]) -> Point:
    """Return how many windows a threshold sends on, and how many first labels then agree.

    Args:
        confidence: [W], the student's.
        agrees: [W], whether the student's first label is the teacher's.
    """
    is_sure = confidence >= threshold
    num_right = int((agrees & is_sure).sum())
    agreement_of_sure = num_right / int(is_sure.sum()) if is_sure.any() else None
    # A window that is sent on agrees by definition: the teacher itself answers it.
    agreement = (num_right + int((~is_sure).sum())) / len(is_sure)
    return Point(threshold, float(1 - is_sure.mean()), agreement, agreement_of_sure)
