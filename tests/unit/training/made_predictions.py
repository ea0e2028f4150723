"""Predictions at random that a good model could have made."""

from __future__ import annotations

import numpy as np

from tonearm.training.judge.predictions import Predictions

LABELS = ("a", "b", "c", "d", "e")


def predictions(*, is_multi: bool, num_tracks: int = 120, sharpness: float = 1.0, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(num_tracks), rng.integers(1, 5, num_tracks))
    if is_multi:
        targets = (rng.random((num_tracks, 5)) < [0.5, 0.3, 0.1, 0.6, 0.0]).astype(np.float32)
    else:
        targets = np.eye(5, dtype=np.float32)[rng.integers(0, 5, num_tracks)]
    # What misleads a model about a track misleads it in most of the track's windows.
    logits = 1.2 * (2 * targets[owner] - 1) + rng.normal(0, 1.5, (num_tracks, 5))[owner]
    logits += rng.normal(0, 0.3, logits.shape)
    logits = (sharpness * logits).astype(np.float32)
    return Predictions(logits, owner, np.arange(len(owner), dtype=float), targets, np.arange(num_tracks))
