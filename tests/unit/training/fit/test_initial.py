"""A training starts from a model folder or an architecture, and keeps a head that knows the labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import save_small
from tests.labelled import planned, train_settings
from tonearm.errors import CheckpointError
from tonearm.training.fit.initial import choose_head, read_initial_model
from tonearm.training.fit.initial_weights import Classifier, load_initial_model


@pytest.mark.processes
def test_a_checkpoint_that_knows_the_labels_keeps_its_head(collection: Path, cache: Path, tmp_path: Path) -> None:
    start = save_small(tmp_path, "hubert", num_labels=3)
    labels = ["drone", "bird", "cello"]
    _relabel(start, labels)
    run = planned(collection, train_settings(start, cache, new_head=False))
    assert choose_head(run.job.initial, ["bird", "cello", "drone"]).is_kept
    assert run.job.labels == tuple(labels), "the order is the checkpoint's"
    model = load_initial_model(run.job.initial, Classifier(run.job.labels, False), seed=0).model
    from safetensors.torch import load_file

    assert (model.classifier.weight == load_file(start / "model.safetensors")["classifier.weight"]).all()


def _relabel(folder: Path, labels: list[str]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.processes
def test_labels_that_differ_from_the_checkpoints_need_new_head(collection: Path, cache: Path, tmp_path: Path) -> None:
    start = save_small(tmp_path, "hubert", num_labels=3)
    _relabel(start, ["bird", "cello", "flute"])
    with pytest.raises(CheckpointError, match=r"drone.*--new-head"):
        planned(collection, train_settings(start, cache, new_head=False))
    run = planned(collection, train_settings(start, cache, new_head=True))
    assert any("--new-head" in note for note in run.notes)


@pytest.mark.parametrize(
    ("source", "named", "message"),
    [
        ("small-ast", {}, "add --from-scratch"),
        ("nowhere/at/all", {}, "no model folder"),
    ],
)
def test_initial_models_that_cannot_be_used_are_refused(source: str, named: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_initial_model(source, **named)
