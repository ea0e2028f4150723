"""What a model folder or hub id is described as, and what is refused with the reason and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.broken_checkpoints import edit, load
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint


def test_description(hubert: Path) -> None:
    info = describe_checkpoint(str(hubert))
    assert (info.family, info.name, info.sample_rate, info.native_window_s) == ("hubert", "hubert", 16000, None)
    assert info.labels == tuple(f"label {index}" for index in range(7))
    assert info.embedding_dim == 48
    assert info.num_parameters == sum(weight.numel() for weight in load(hubert).parameters())
    assert info.revision.startswith("sha256:")


def test_revision_follows_the_weights(broken: Path) -> None:
    before = describe_checkpoint(str(broken)).revision
    weights = load_file(broken / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    assert describe_checkpoint(str(broken)).revision != before


def test_missing_folder_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model folder .*; give a folder with config\.json"):
        describe_checkpoint(str(tmp_path / "nothing"))


def test_hub_id_without_network_names_the_demo_models(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"hub cannot be reached; .*`tonearm tag SOURCE --demo-models") as caught:
        describe_checkpoint("nobody/nothing-of-this-name")
    assert "\n" not in caught.value.message


def test_missing_preprocessor(broken: Path) -> None:
    (broken / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="save the feature extractor"):
        describe_checkpoint(str(broken))


@pytest.mark.parametrize(
    ("id2label", "message"),
    [
        ({"0": "a", "1": "a"}, "a more than once"),
        ({"0": "a", "7": "b"}, "expected 0 to 1"),
    ],
)
def test_labels_that_are_no_list(broken: Path, id2label: dict[str, str], message: str) -> None:
    edit(broken / "config.json", {"id2label": id2label, "label2id": {}})
    with pytest.raises(CheckpointError, match=message):
        describe_checkpoint(str(broken))


def test_weights_that_are_not_numbers(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    weights["classifier.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"classifier\.weight holds values that are not numbers"):
        load(broken)


def test_truncated_weights(broken: Path) -> None:
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    for use in (lambda: describe_checkpoint(str(broken)), lambda: load(broken)):
        with pytest.raises(CheckpointError, match=r"broken.* cannot be"):
            use()


def test_pickled_weights_only_when_insisted(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    (broken / "model.safetensors").unlink()
    torch.save(weights, broken / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="allow_pickle = true if you trust them"):
        load(broken)
    model = load(broken, allow_pickle=True)
    assert torch.equal(model.classifier.weight, weights["classifier.weight"])
