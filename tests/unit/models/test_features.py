"""Features in torch: saved and loaded, of short and long windows, and without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import converted
from tests.checkpoints import clips
from tests.musicnn_wheel import windows
from tonearm.models.features import EmphasizedLogMel, build_features, load_features, save_features
from tonearm.models.networks.mobilenet_features import MobileNetAudioFeatureExtractor
from tonearm.models.networks.musicnn_features import MusicnnFeatureExtractor
from tonearm.training.fit.examples import model_inputs


def test_the_spectrogram_is_kept_in_a_file(tmp_path: Path) -> None:
    extractor = MobileNetAudioFeatureExtractor(num_mel_bins=40, hop_length=480, max_frequency=14000.0, mean=-4.0)
    features = EmphasizedLogMel.of(extractor)
    save_features(features, tmp_path / "features.safetensors")
    window = torch.randn(1, 5000)
    found = load_features(tmp_path / "features.safetensors")(window)["input_features"]
    assert torch.equal(found, features(window)["input_features"]) and found.shape == (1, 40, 11)


def test_shorter_windows_of_a_training_batch_end_in_silence() -> None:
    features = EmphasizedLogMel.of(MobileNetAudioFeatureExtractor())
    long, short = clips(3, num_clips=2, length_s=1.0)
    padded = np.concatenate([short[:9000], np.zeros(len(long) - 9000, np.float32)])
    found = model_inputs(features, [long, short[:9000]], "cpu")["input_features"]
    expected = features(torch.from_numpy(np.stack([long, padded])))["input_features"]
    assert torch.equal(found, expected)


def test_a_short_window_is_repeated_and_a_long_one_cut(tmp_path: Path) -> None:
    features = build_features(MusicnnFeatureExtractor())
    save_features(features, tmp_path / "features.safetensors")  # type: ignore[arg-type]
    for make in (features, load_features(tmp_path / "features.safetensors")):
        window = torch.from_numpy(windows()[:2])
        whole = make(window)["input_features"]
        assert whole.shape == (2, 187, 96)
        short = make(window[:, :10000])["input_features"]
        torch.testing.assert_close(short[:, :38], whole[:, :38])
        torch.testing.assert_close(short[:, 39:78], short[:, :39])
        assert make(window[:, :512])["input_features"].shape == (2, 187, 96)
        longer = torch.cat([window, window], dim=1)
        torch.testing.assert_close(make(longer)["input_features"][:, :186], whole[:, :186])
    reference = MusicnnFeatureExtractor()(windows()[0][:10000])["input_features"]
    np.testing.assert_allclose(short[0].numpy()[:39], make(window[:, :10000])["input_features"][0][:39])
    np.testing.assert_allclose(np.array(reference)[0], make(window[:, :10000])["input_features"][0], atol=5e-4)


@pytest.mark.parametrize("do_normalize", [True, False])
def test_waveforms_are_the_same_without_torch(do_normalize: bool) -> None:
    import torch

    from tonearm.models.features import RawWaveform

    features = RawWaveform(do_normalize=do_normalize, return_attention_mask=False)
    (loud,) = converted.windows(1, 30.0)
    quiet = loud * np.float32(1e-4) + np.float32(0.2)
    heard = np.stack([loud, quiet, np.zeros_like(loud)])
    (expected,) = features(torch.from_numpy(heard)).values()
    np.testing.assert_allclose(features.of_array(heard), expected.numpy(), atol=2e-3 * do_normalize)
    np.testing.assert_allclose(features.of_array(heard)[::2], expected.numpy()[::2], atol=5e-6)
