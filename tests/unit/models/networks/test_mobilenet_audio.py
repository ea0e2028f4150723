"""The efficient CNNs are as large as published, start well from random weights, learn, and run in OpenVINO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench.sizes import PUBLISHED, TOLERANCE, ratios, size_of
from safetensors.torch import load_file
from torch import Tensor

from tests.checkpoints import clips, save_small
from tests.efficientat import FAMILY, RATE
from tests.labelled import loop_of, planned, train_settings, write_folders
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import load_model
from tonearm.models.classifier import Classifier
from tonearm.models.families import family_of
from tonearm.models.networks.mobilenet_audio import MobileNetAudioConfig, MobileNetAudioForAudioClassification
from tonearm.training.fit.snapshot import BEST


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_are_as_large_as_published(name: str) -> None:
    cost = size_of(name)
    assert ratios(name, cost) == pytest.approx((1, 1), abs=TOLERANCE)
    # And the parameters to the last digit that is published.
    assert round(cost.num_parameters / 1e6, 3 if name == "mn04" else 2) == pytest.approx(
        PUBLISHED[name].num_parameters / 1e6, abs=0.0011
    )


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"width": 0.0}, "width is 0.0, expected a number above 0 and up to 10"),
        ("config.json", {"width": 1e9}, "width is 1000000000.0, expected a number above 0 and up to 10"),
        ("config.json", {"width": 0.6}, "the config belongs to other weights"),
        ("preprocessor_config.json", {"n_fft": 512}, "preprocessor_config.json has n_fft 512, expected 1024"),
        ("preprocessor_config.json", {"win_length": 2000}, "win_length is 2000, expected at most n_fft, 1024"),
        ("preprocessor_config.json", {"win_length": 0}, "win_length is 0, expected a whole number from 1"),
        ("preprocessor_config.json", {"max_frequency": 17000.0}, "from 0 to 17000 Hz, expected ones from 0 to half"),
        ("preprocessor_config.json", {"preemphasis": "a"}, 'preemphasis is "a", expected a number'),
    ],
)
def test_values_that_no_such_model_has_are_one_line(
    file: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = save_small(tmp_path / "mn", FAMILY)
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(CheckpointError) as caught:
        load_model(str(folder), revision=None, allow_pickle=False)
    assert message in caught.value.message


def test_random_weights_neither_swell_nor_shrink_what_comes_in() -> None:
    torch.manual_seed(0)
    model = MobileNetAudioForAudioClassification(MobileNetAudioConfig(width=1.0, num_labels=10))
    weight = model.blocks[13].project.conv.weight
    assert weight.std().item() == pytest.approx((2 / weight.shape[0]) ** 0.5, rel=0.02)
    seen: list[Tensor] = []
    family_of(FAMILY).watch_embedding(model, seen.append)
    with torch.no_grad():
        model.eval()(torch.randn(2, 128, 300))
    assert 1e-3 < seen[0].std() < 1e3
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.classifier.bias.any()


@pytest.mark.processes
@pytest.mark.slow
def test_openvino_says_what_torch_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO gives a narrow CNN's scores and embeddings as torch does, for windows of every length."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = str(save_small(tmp_path / "mn", FAMILY))
    windows = [clip for length_s in (0.5, 3.0, 20.0) for clip in clips(9, num_clips=2, length_s=length_s)]
    torchs = Classifier.load(folder, runtime="torch", precision="fp32").score(windows)
    found = Classifier.load(folder, runtime="openvino", precision="fp32").score(windows)
    assert torchs.logits.std() > 0.1
    np.testing.assert_allclose(found.logits, torchs.logits, atol=1e-3)
    np.testing.assert_allclose(found.embedding, torchs.embedding, atol=1e-3)


@pytest.mark.processes
@pytest.mark.slow
def test_it_learns_from_random_weights(tmp_path: Path) -> None:
    """mn04 learns three kinds of sound from random weights, and keeps what its batch norms have seen."""
    collection = write_folders(tmp_path / "sounds", clips=10)
    settings = {
        "from_scratch": True,
        "epochs": 30,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "keep": "last",
        "new_head": False,
    }
    run = planned(collection, train_settings("mn04", tmp_path / "cache", **settings))
    assert run.job.initial.family == FAMILY and run.job.initial.sample_rate == RATE
    loop = loop_of(run, tmp_path / "run")
    progress = loop.run()
    assert progress.losses[-1][1] < 0.7 * progress.losses[0][1], progress.losses
    found = loop.predict(run.job.train)  # with what the norms have kept, not with what a batch has
    right = found.track_scores(is_multi=False).argmax(axis=1) == found.targets.argmax(axis=1)
    assert right.mean() >= 0.8
    kept = load_file(tmp_path / "run" / BEST)
    assert kept["head.norm.num_batches_tracked"] > 0 and kept["stem.norm.running_mean"].abs().max() > 1e-2
    extractor = run.empty.extractor
    assert loop.bare.config.max_length == extractor.max_length == 100, "made for windows of a second"
