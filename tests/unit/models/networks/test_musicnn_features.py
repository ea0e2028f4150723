"""musicnn's spectrogram is the one that its models were trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.musicnn_wheel import librosa_features, windows
from tonearm.models.features import build_features
from tonearm.models.networks.musicnn_features import MusicnnFeatureExtractor

DATA = Path(__file__).parents[3] / "data"


GOLDEN = np.load(DATA / "musicnn_golden.npz")


def test_features_are_those_that_the_models_were_trained_on() -> None:
    extractor = MusicnnFeatureExtractor()
    expected = np.stack([librosa_features(window) for window in windows()])
    # Rounding to float16 may fall to either side of what differs in the seventh digit.
    np.testing.assert_allclose(expected[:, ::20, ::8], GOLDEN["features"], atol=5e-4)
    made = build_features(extractor)(torch.from_numpy(windows()))["input_features"].numpy()
    np.testing.assert_allclose(made, expected, atol=5e-4)
    np.testing.assert_allclose(extractor(list(windows()))["input_features"], expected, atol=5e-4)
    assert np.abs(made - np.log10(10000 * (10**made - 1) / 10000 + 1)).max() < 1e-5 and made.max() > 5
