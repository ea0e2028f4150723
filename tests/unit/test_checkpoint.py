"""What is refused as a checkpoint, with the reason and the way out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import AST, save_small
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint, load_model
from tonearm.models.window_plan import plan_windows


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("models") / "hubert", "hubert")


@pytest.fixture
def broken(hubert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(hubert, tmp_path / "broken"))


def edit(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def load(folder: Path, *, allow_pickle: bool = False) -> Any:
    return load_model(str(folder), revision=None, allow_pickle=allow_pickle)[0]


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


def test_windows_come_from_the_checkpoint(hubert: Path, tmp_path: Path) -> None:
    ast = describe_checkpoint(str(save_small(tmp_path / "ast", AST)))
    assert plan_windows(ast, None, None).window_samples == 163_840  # 10.24 s
    assert plan_windows(ast, 30.0, None).window_samples == 163_840
    assert plan_windows(ast, 5.0, 8).window_samples == 80_000
    assert plan_windows(describe_checkpoint(str(hubert)), None, None).window_samples == 480_000
    with pytest.raises(CheckpointError, match="expected at least"):
        plan_windows(ast, 0.001, None)


def test_missing_folder_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model folder .*; give a folder with config\.json"):
        describe_checkpoint(str(tmp_path / "nothing"))


def test_hub_id_without_network_names_the_demo_models(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"hub cannot be reached; .*`tonearm tag SOURCE --demo-models") as caught:
        describe_checkpoint("nobody/nothing-of-this-name")
    assert "\n" not in caught.value.message


def test_not_a_classifier(broken: Path) -> None:
    edit(broken, architectures=["HubertForCTC"])
    with pytest.raises(CheckpointError, match="is a HubertForCTC, expected an audio classifier"):
        describe_checkpoint(str(broken))
    edit(broken, model_type="bert", architectures=["BertForSequenceClassification"])
    with pytest.raises(CheckpointError, match="expected an audio classifier"):
        describe_checkpoint(str(broken))


def test_config_that_cannot_be_read(broken: Path) -> None:
    (broken / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        describe_checkpoint(str(broken))
    (broken / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        describe_checkpoint(str(broken))


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
    edit(broken, id2label=id2label, label2id={})
    with pytest.raises(CheckpointError, match=message):
        describe_checkpoint(str(broken))


def test_labels_that_do_not_match_the_weights(broken: Path) -> None:
    edit(broken, id2label={str(index): f"label {index}" for index in range(5)}, label2id={})
    with pytest.raises(CheckpointError, match=r"classifier\.bias has the shape \[7\], expected \[5\]"):
        load(broken)
    with pytest.raises(CheckpointError, match=r"classifier\.weight has the shape \[7, 32\], expected 5 rows"):
        describe_checkpoint(str(broken))


def test_bare_encoder(broken: Path) -> None:
    weights = {
        name: value for name, value in load_file(broken / "model.safetensors").items() if "classifier" not in name
    }
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    for use in (lambda: describe_checkpoint(str(broken)), lambda: load(broken)):
        with pytest.raises(CheckpointError, match="expected a fine-tuned classifier"):
            use()


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


def test_code_of_a_checkpoint_is_not_run(broken: Path, tmp_path: Path) -> None:
    (broken / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\n")
    edit(broken, model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(CheckpointError):
        describe_checkpoint(str(broken))
    assert not (tmp_path / "ran").exists()
