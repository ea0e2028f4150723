"""The network gives the logits and embeddings of the published graph in TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.musicnn_wheel import librosa_features, windows
from tonearm.models.checkpoint import load_model
from tonearm.models.classifier import Classifier
from tonearm.models.musicnn import wheel
from tonearm.models.networks.musicnn import Front

DATA = Path(__file__).parents[3] / "data"


GOLDEN = np.load(DATA / "musicnn_golden.npz")


def test_the_maximum_before_the_norm_is_that_after_it() -> None:
    torch.manual_seed(0)
    front = Front(16, 64, 5).eval()
    with torch.no_grad():
        front.norm.weight.uniform_(-1, 1)
        front.norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
        values = torch.randn(2, 1, 30, 20)
        padded = torch.nn.functional.pad(values, (0, 0, 31, 32))
        expected = front.norm(torch.relu(front.conv(padded))).amax(dim=3)
        torch.testing.assert_close(front(values), expected, atol=1e-5, rtol=1e-5)


def test_logits_and_embedding_are_those_of_the_wheels_graph_in_tensorflow(empty_cache: Path, made_wheel: Path) -> None:
    folder = wheel.add("musicnn", made_wheel)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("LICENSE", "NOTICE", "config.json", "model.safetensors", "preprocessor_config.json"),
    ]
    assert "Pompeu Fabra" in (folder / "NOTICE").read_text() and "Permission" in (folder / "LICENSE").read_text()
    features = torch.from_numpy(np.stack([librosa_features(window) for window in windows()]))
    model = load_model("musicnn", revision=None, allow_pickle=False).model
    with torch.inference_mode():
        logits = model(features).logits.numpy()
    np.testing.assert_allclose(logits, GOLDEN["random/logits"], atol=1e-4)
    scores = Classifier.load("musicnn", runtime="torch").score(list(windows()))
    np.testing.assert_allclose(scores.logits, GOLDEN["random/logits"], atol=1e-4)
    np.testing.assert_allclose(scores.embedding, GOLDEN["random/embedding"], atol=1e-4)
    assert np.ptp(GOLDEN["random/logits"], axis=0).min() > 0.5  # else anything would be equal
