"""Published files of EfficientAT become model folders that give the published network's scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import Tensor
from torch.nn import BatchNorm2d

from tests.checkpoints import clips
from tests.efficientat import FAMILY, LABELS, RATE, Published, log_mel
from tonearm.cli.app import app
from tonearm.errors import CheckpointError, DestinationError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.classifier import Classifier
from tonearm.models.networks.efficientat import convert
from tonearm.training.fit.initial import choose_head, read_initial_model
from tonearm.training.fit.initial_weights import Classifier as NewClassifier
from tonearm.training.fit.initial_weights import load_initial_model
from tonearm.training.fit.step import _parameter_groups


@pytest.mark.parametrize("hop_ms", ["nan", "inf", "0", "1e9"])
def test_a_hop_that_no_spectrogram_has_is_refused(hop_ms: str, tmp_path: Path) -> None:
    """An infinite one ended in an OverflowError, as a bug to report."""
    (tmp_path / "labels.txt").write_text("siren\nrain\n")
    command = ["models", "convert", "mn.pt", "--out", str(tmp_path / "mn"), "--labels", str(tmp_path / "labels.txt")]
    with pytest.raises(typer.BadParameter, match=r"[Ii]nput should be|not in the range"):
        app([*command, "--hop-ms", hop_ms], standalone_mode=False)


@pytest.mark.parametrize(("width", "size"), [(0.1, 384 // 4), (0.4, 384), (1.0, 960)])
def test_a_published_file_says_what_it_said(
    width: float, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = Published(width, len(LABELS))
    torch.save(published.tensors, tmp_path / "mn.pt")
    (tmp_path / "labels.csv").write_text('index,mid,display_name\n0,/m/0,siren\n1,/m/1,rain\n2,/m/2,"piano"\n')
    command = ["models", "convert", str(tmp_path / "mn.pt"), "--out", str(tmp_path / "mn")]
    assert app([*command, "--labels", str(tmp_path / "labels.csv")], standalone_mode=False) == 0
    said = capsys.readouterr()
    assert said.out.endswith(f"use it: tonearm tag SOURCE --tag-model {tmp_path / 'mn'} --out RUN\n") and not said.err
    classifier = Classifier.load(str(tmp_path / "mn"), runtime="torch", precision="fp32")
    info = classifier.info
    assert (info.labels, info.family, info.multi_label) == (LABELS, FAMILY, True)
    assert (info.sample_rate, info.native_window_s, classifier.window_s) == (RATE, 10.0, 10.0)
    for window in clips(5, num_clips=2, length_s=4.0):
        with torch.no_grad():
            logits, embedding = published.says(log_mel(window))
        found = classifier.score([window])
        np.testing.assert_allclose(found.logits, logits.numpy(), atol=2e-4, rtol=1e-3)
        np.testing.assert_allclose(found.embedding, embedding.numpy(), atol=2e-4, rtol=1e-3)
        assert found.embedding.shape == (1, info.embedding_dim) == (1, size) and logits.std() > 1e-3


def test_other_hops_and_bands_are_told(tmp_path: Path) -> None:
    torch.save(Published(0.1, 3).tensors, tmp_path / "mn.pt")
    where = {"hop_length": 480, "num_mel_bins": 64, "is_multi": False}
    convert(tmp_path / "mn.pt", str(tmp_path / "mn"), LABELS, **where)
    info = describe_checkpoint(str(tmp_path / "mn"))
    assert info.native_window_s == pytest.approx(10.0, abs=0.01) and not info.multi_label
    values = json.loads((tmp_path / "mn" / "preprocessor_config.json").read_text())
    assert (values["hop_length"], values["num_mel_bins"]) == (480, 64)
    assert Classifier.load(str(tmp_path / "mn"), runtime="torch").score([np.zeros(9000, np.float32)]).logits.any()


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in Published(0.1, 3).tensors.items() if key != name}


BAD: dict[str, tuple[Any, str]] = {
    "an object": ({"a": Path("x")}, "cannot be read (not tensors alone); expected a .pt file of tensors by name"),
    "a list": ([1, 2], "holds a list of other things, expected tensors by name"),
    "nested": ({"state_dict": without("")}, "holds a dict of other things"),
    "another head": (without("classifier.5.weight"), "has no classifier.5.weight; expected a checkpoint of Efficient"),
    "a lack": (without("features.3.block.1.1.bias"), "has no features.3.block.1.1.bias, expected one of the shape [8]"),
    "more": ({**without(""), "x.residuals": torch.zeros(1)}, "has x.residuals, which is of another network"),
    "a shape": (
        {**without(""), "features.0.0.weight": torch.zeros(8, 3, 3, 3)},
        "features.0.0.weight has the shape [8, 3, 3, 3], expected [8, 1, 3, 3] at width 0.1",
    ),
    "no width": ({**without(""), "classifier.2.weight": torch.zeros(0, 96)}, "has the shape [0, 96], which is of no"),
    "four outputs": (Published(0.1, 4).tensors, "got 3 distinct labels for the 4 outputs of"),
    "no number": (
        {**without(""), "classifier.5.bias": torch.full((3,), torch.nan)},
        "the weight classifier.bias holds values that are not numbers",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_published_file_is_one_line(what: str, tmp_path: Path) -> None:
    content, message = BAD[what]
    torch.save(content, tmp_path / "mn.pt")
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / "mn.pt", str(tmp_path / "out"), LABELS, hop_length=320, num_mel_bins=128, is_multi=True)
    assert message in caught.value.message and not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_and_a_folder_that_is(tmp_path: Path) -> None:
    how: dict[str, Any] = {"hop_length": 320, "num_mel_bins": 128, "is_multi": True}
    with pytest.raises(CheckpointError, match=r"cannot be read \(No such file or directory"):
        convert(tmp_path / "mn.pt", str(tmp_path / "out"), LABELS, **how)
    torch.save(Published(0.1, 3).tensors, tmp_path / "mn.pt")
    with pytest.raises(DestinationError, match="holds files already; give another --out"):
        convert(tmp_path / "mn.pt", str(tmp_path), LABELS, **how)


def test_a_converted_checkpoint_is_trained_on_with_other_labels(tmp_path: Path) -> None:
    published = Published(0.1, len(LABELS))
    torch.save(published.tensors, tmp_path / "mn.pt")
    convert(tmp_path / "mn.pt", str(tmp_path / "mn"), LABELS, hop_length=320, num_mel_bins=128, is_multi=True)
    initial = read_initial_model(str(tmp_path / "mn"))
    model = load_initial_model(initial, NewClassifier(("cat", "dog"), False, 5.0), seed=0).model
    assert not choose_head(initial, ["cat", "dog"]).is_kept and model.classifier.weight.shape[0] == 2
    assert torch.equal(model.stem.conv.weight, published.tensors["features.0.0.weight"])
    assert torch.equal(model.projector.weight, published.tensors["classifier.2.weight"])
    assert model.config.max_length == 1000, "a trained network stays as long as it was"
    norms = {
        id(weight) for module in model.modules() if isinstance(module, BatchNorm2d) for weight in module.parameters()
    }
    decayed, plain = _parameter_groups(model, 0.05)
    assert norms <= {id(weight) for weight in plain["params"]} and decayed["weight_decay"] == 0.05
