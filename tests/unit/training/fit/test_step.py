"""What one step trains, and how much each clip weighs in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.checkpoints import save_small
from tests.labelled import loop_of, planned, train_settings
from tests.unit.training.fit.runs import run_in, weights
from tonearm.errors import TrainingError
from tonearm.training.fit.process_group import SingleProcess


@pytest.mark.processes
def test_accumulated_small_batches_are_one_large_one(collection: Path, cache: Path, tmp_path: Path) -> None:
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    start = save_small(tmp_path / "still", "hubert", layerdrop=0.0, apply_spec_augment=False, **still)
    runs = [
        planned(collection, train_settings(start, cache, batch_size=batch, accumulate=parts))
        for batch, parts in ((8, 1), (2, 4))
    ]
    losses = [
        [loss for _, loss in run_in(run, SingleProcess(tmp_path / str(number))).progress.losses]
        for number, run in enumerate(runs)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.processes
def test_the_feature_encoder_stays_as_it_was(collection: Path, start: Path, cache: Path, tmp_path: Path) -> None:
    run = planned(collection, train_settings(start, cache, freeze_feature_encoder=True))
    run_in(run, SingleProcess(tmp_path))
    before, after = load_file(start / "model.safetensors"), weights(tmp_path)
    moved = {name for name in after if name in before and after[name].shape == before[name].shape
             and not torch.equal(before[name], after[name])}  # fmt: skip
    assert not any("feature_extractor" in name for name in moved)
    assert any("encoder.layers" in name for name in moved)


@pytest.mark.processes
def test_a_family_without_a_feature_encoder_says_so(
    collection: Path, ast_start: Path, cache: Path, tmp_path: Path
) -> None:
    run = planned(collection, train_settings(ast_start, cache, freeze_feature_encoder=True))
    with pytest.raises(TrainingError, match="has no feature encoder"):
        loop_of(run, tmp_path)


@pytest.mark.processes
def test_rare_classes_weigh_more_on_request(collection: Path, start: Path, cache: Path, tmp_path: Path) -> None:
    plain = run_in(planned(collection, train_settings(start, cache)), SingleProcess(tmp_path / "plain"))
    loop = loop_of(planned(collection, train_settings(start, cache, class_weights=True)), tmp_path / "weighted")
    counts = loop.job.targets(loop.job.train).sum(axis=0)
    assert loop.stepper.weights is not None
    np.testing.assert_allclose(loop.stepper.weights.numpy() * counts, len(loop.job.train) / 3, rtol=1e-6)
    assert plain.stepper.weights is None
