"""transformers loads audio classifiers alone, and nothing of a checkpoint has it fetch or run code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from tests.broken_checkpoints import edit
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint, load_model


def test_not_a_classifier(broken: Path) -> None:
    edit(broken / "config.json", {"architectures": ["HubertForCTC"]})
    with pytest.raises(CheckpointError, match="is a HubertForCTC, expected an audio classifier"):
        describe_checkpoint(str(broken))
    edit(broken / "config.json", {"model_type": "bert", "architectures": ["BertForSequenceClassification"]})
    with pytest.raises(CheckpointError, match="expected an audio classifier"):
        describe_checkpoint(str(broken))


def test_code_of_a_checkpoint_is_not_run(broken: Path, tmp_path: Path) -> None:
    (broken / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\n")
    edit(broken / "config.json", {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}})
    with pytest.raises(CheckpointError):
        describe_checkpoint(str(broken))
    assert not (tmp_path / "ran").exists()


def test_no_other_file_decides_how_audio_is_prepared(broken: Path) -> None:
    other = {"feature_extractor": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 8000}}
    (broken / "processor_config.json").write_text(json.dumps(other))
    extractor = load_model(str(broken), revision=None, allow_pickle=False).extractor
    assert extractor.sampling_rate == 16000


def test_kernels_are_never_fetched(broken: Path) -> None:
    edit(broken / "config.json", {"_attn_implementation": "eager"})
    model = load_model(str(broken), revision=None, allow_pickle=False).model
    assert os.environ["USE_HUB_KERNELS"] == "0"
    with torch.inference_mode():
        assert model(torch.zeros(1, 16000)).logits.shape == (1, 7)
