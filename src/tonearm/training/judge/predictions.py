"""The logits of a model for the windows of some tracks, with the tracks' true labels.

Letters in shapes: W windows, T tracks, L labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm.models.pooling import sigmoid, softmax
from tonearm.training.data.collection import ClipId

Floats = NDArray[np.float32]
# The arrays that are stored. Clip ids are not: the job has them. Files of 0.1.0 also have the clips' positions.
STORED = ("logits", "owner", "start_s", "targets")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The logits of a model for the windows of some tracks, and the true labels.

    Attributes:
        logits: float32 [W, L].
        owner: int [W], the track of each window.
        start_s: float [W].
        targets: float32 [T, L].
        clips: [T], the tracks' ids.
    """

    logits: Floats
    owner: NDArray[np.int64]
    start_s: NDArray[np.float64]
    targets: Floats
    clips: NDArray[np.int64]

    @classmethod
    def of(cls, windows: Sequence[tuple[int, float, Floats]], targets: Floats, clips: Sequence[ClipId]) -> Predictions:
        """Return the predictions of windows, each ``(index of its track in targets, start in s, logits [L])``."""
        return cls(
            np.stack([logits for _, _, logits in windows]),
            np.array([number for number, _, _ in windows]),
            np.array([start_s for _, start_s, _ in windows]),
            targets,
            np.array(clips, np.int64),
        )

    def window_scores(self, *, is_multi: bool, temperature: float = 1.0) -> Floats:
        """Return probabilities [W, L]."""
        scaled = (self.logits / np.float32(temperature)).astype(np.float32)
        return sigmoid(scaled) if is_multi else softmax(scaled)

    def track_scores(self, *, is_multi: bool, temperature: float = 1.0) -> Floats:
        """Return probabilities [T, L]: the mean over a track's windows, as tagging pools them."""
        return pool(self.window_scores(is_multi=is_multi, temperature=temperature), self.owner, len(self.targets))

    def only(self, tracks: NDArray[np.int64]) -> Predictions:
        """Return the predictions of some of the tracks, given by their indices."""
        new_numbers = np.full(len(self.targets), -1)
        new_numbers[tracks] = np.arange(len(tracks))
        is_kept = new_numbers[self.owner] >= 0
        return Predictions(
            self.logits[is_kept],
            new_numbers[self.owner[is_kept]],
            self.start_s[is_kept],
            self.targets[tracks],
            self.clips[tracks],
        )

    def scored(self) -> NDArray[np.int64]:
        """Return the indices of the tracks without NaN among their logits."""
        failed = np.unique(self.owner[~np.isfinite(self.logits).all(axis=1)])
        return np.setdiff1d(np.arange(len(self.targets)), failed)


def pool(windows: Floats, owner: NDArray[np.int64], num_tracks: int) -> Floats:
    """Return the mean [T, L] of each track's windows [W, L]."""
    sums = np.zeros((num_tracks, windows.shape[1]))
    # Not ``sums[owner] += windows``, which adds only one window of each track.
    np.add.at(sums, owner, windows)
    return (sums / np.bincount(owner, minlength=num_tracks)[:, None]).astype(np.float32)


def write_predictions(path: Path, sides: Mapping[str, Predictions]) -> None:
    """Write the predictions of several sides as one ``.npz`` file, without the clips' ids."""
    arrays = {f"{side}.{name}": getattr(predictions, name) for side, predictions in sides.items() for name in STORED}
    np.savez_compressed(path, **arrays)


def read_predictions(path: Path, clips: Mapping[str, Sequence[ClipId]]) -> dict[str, Predictions]:
    """Return the predictions that ``write_predictions`` wrote.

    Args:
        clips: the clips' ids by side, in the order of the targets.
    """
    with np.load(path) as arrays:
        sides = sorted({name.partition(".")[0] for name in arrays})
        return {
            side: Predictions(
                **{name: arrays[f"{side}.{name}"] for name in STORED}, clips=np.array(clips[side], np.int64)
            )
            for side in sides
        }
