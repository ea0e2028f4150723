"""A teacher's scores of the windows of clips: the targets of a student's training.

Letters in shapes: C clips, W windows of all clips, L labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tonearm.training.data.collection import ClipId

Floats = NDArray[np.float32]
# How far two starts may be apart and still be the same window. The student's windows are the teacher's at another
# sample rate, so only rounding differs.
MOST_APART_S = 0.02


@dataclasses.dataclass(frozen=True)
class SoftTargets:
    """Scores by clip and window.

    Attributes:
        teacher: its name and revision, and how it was run; identifies the scores in the hash of a training.
        start_s: float64 [W], ascending within a clip.
        scores: float16 [W, L], probabilities; half the memory, as a whole library's go to each worker.
        spans: which windows are a clip's, as ``[first, stop)``.
    """

    teacher: tuple[str, ...]
    start_s: NDArray[np.float64]
    scores: NDArray[np.float16]
    spans: Mapping[ClipId, tuple[int, int]]

    @classmethod
    def of(cls, teacher: tuple[str, ...], windows: Mapping[ClipId, tuple[NDArray[np.float64], Floats]]) -> SoftTargets:
        """Return the targets of clips.

        Args:
            windows: by clip, its windows' starts in seconds and their probabilities [windows, L].
        """
        spans, place = {}, 0
        for clip, (start_s, _) in windows.items():
            spans[clip] = (place, place + len(start_s))
            place += len(start_s)
        starts = np.concatenate([start_s for start_s, _ in windows.values()])
        scores = np.concatenate([scores.astype(np.float16) for _, scores in windows.values()])
        return cls(teacher, starts, scores, spans)

    def windows(self, clip: ClipId) -> tuple[NDArray[np.float64], Floats]:
        """Return where a clip's windows start, in seconds, and their scores float32 [windows, L]."""
        first, stop = self.spans[clip]
        return self.start_s[first:stop], self.scores[first:stop].astype(np.float32)

    def means(self, clips: Sequence[ClipId]) -> Floats:
        """Return the mean of each clip's windows, float32 [C, L]."""
        return np.stack([self.windows(clip)[1].mean(axis=0) for clip in clips])

    def fits(self, clip: ClipId, start_s: NDArray[np.float64]) -> bool:
        """Return whether the teacher has scored windows of the clip that start at ``start_s``."""
        if clip not in self.spans:
            return False
        scored_s, _ = self.windows(clip)
        return bool(np.abs(scored_s[_nearest_start(scored_s, start_s)] - start_s).max() <= MOST_APART_S)

    def nearest(self, clips: NDArray[np.int64] | Sequence[ClipId], start_s: NDArray[np.float64]) -> Floats:
        """Return the scores of the windows nearest to ``start_s``, float32 [windows, L].

        Args:
            clips: the clip of each window, as long as ``start_s``.
        """
        places = np.empty(len(start_s), np.int64)
        for clip in np.unique(np.asarray(clips)):
            first, stop = self.spans[ClipId(int(clip))]
            is_of_clip = np.asarray(clips) == clip
            places[is_of_clip] = first + _nearest_start(self.start_s[first:stop], start_s[is_of_clip])
        return self.scores[places].astype(np.float32)


def _nearest_start(scored_s: NDArray[np.float64], start_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each of ``start_s`` the index of the nearest of ``scored_s``, which ascend."""
    after = np.searchsorted(scored_s, start_s).clip(1, max(1, len(scored_s) - 1))
    before = after - 1
    # Of a single window both neighbours are the window itself.
    after = after.clip(0, len(scored_s) - 1)
    return np.where(np.abs(scored_s[after] - start_s) < np.abs(scored_s[before] - start_s), after, before)
