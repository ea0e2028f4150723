"""The weights that a training starts from: loaded once, whole, under a head that fits the labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.checkpoints import save_small
from tests.labelled import planned, train_settings
from tonearm.errors import CheckpointError
from tonearm.training.fit.initial_weights import Classifier, load_initial_model


@pytest.mark.processes
def test_a_bare_encoder_gets_a_head(collection: Path, cache: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForAudioClassification

    classifier = AutoModelForAudioClassification.from_pretrained(save_small(tmp_path / "whole", "hubert"))
    encoder = AutoModel.from_config(classifier.config)
    encoder.load_state_dict(classifier.hubert.state_dict())
    encoder.save_pretrained(tmp_path / "bare")
    shutil.copy(tmp_path / "whole" / "preprocessor_config.json", tmp_path / "bare")
    run = planned(collection, train_settings(tmp_path / "bare", cache, new_head=False))
    model = load_initial_model(run.job.initial, Classifier(run.job.labels, False), seed=3).model
    assert model.classifier.out_features == 3
    name = "encoder.layers.0.attention.q_proj.weight"
    assert (model.hubert.state_dict()[name] == encoder.state_dict()[name]).all()


@pytest.mark.processes
def test_a_checkpoint_of_other_weights_is_refused(collection: Path, cache: Path, tmp_path: Path) -> None:
    start = save_small(tmp_path, "hubert")
    from safetensors.torch import load_file, save_file

    weights = load_file(start / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layers.1" not in name}
    save_file(kept, start / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="weights of the encoder are missing"):
        planned(collection, train_settings(start, cache))
