"""EfficientAT's spectrogram is the paper's, by numpy and by torch."""

from __future__ import annotations

import pytest
import torch

from tests.checkpoints import clips
from tests.efficientat import FAMILY, RATE, log_mel
from tonearm.models.families import family_of
from tonearm.models.features import EmphasizedLogMel
from tonearm.models.networks.mobilenet_features import MobileNetAudioFeatureExtractor


@pytest.mark.parametrize("length_s", [0.04, 1.0, 3.21, 10.0])
def test_the_spectrogram_is_the_papers(length_s: float) -> None:
    waveform = clips(3, num_clips=1, length_s=2 * length_s)[0][: round(length_s * RATE)]
    expected = log_mel(waveform)
    extractor = MobileNetAudioFeatureExtractor()
    found = extractor(waveform, sampling_rate=RATE, return_tensors="pt")["input_features"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    features = family_of(FAMILY).features(extractor)
    assert isinstance(features, EmphasizedLogMel)
    found = features(torch.from_numpy(waveform)[None])["input_features"]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert expected.shape[2] == 1 + (len(waveform) - 1) // 320, "as long as the window"
