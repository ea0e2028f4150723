"""Stored weights of another model than the config's are refused before any of them is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.broken_checkpoints import GONE, assert_refused, edit, load
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint


def test_labels_that_do_not_match_the_weights(broken: Path) -> None:
    edit(broken / "config.json", {"id2label": {str(index): f"label {index}" for index in range(5)}, "label2id": {}})
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


@pytest.mark.parametrize("values", [{"hidden_size": 64}, {"hidden_size": 999_996}, {"num_attention_heads": 5}])
def test_weights_that_do_not_fit_are_never_made(broken: Path, values: dict[str, int]) -> None:
    edit(broken / "config.json", values)
    assert_refused(broken, "has the shape|cannot be used", load)


def test_labels_that_are_missing(broken: Path) -> None:
    edit(broken / "config.json", {"id2label": GONE, "label2id": GONE, "num_labels": GONE})
    assert_refused(broken, "the config belongs to other weights")
