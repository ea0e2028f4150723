"""What a model sees depends on the seed, the epoch and the clip alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoints import save_small
from tests.labelled import RATE, loop_of, planned, tone, train_settings
from tonearm.training.fit.examples import TrainingSet


def training_set(collection: Path, start: Path, cache: Path, **augmentation: Any) -> TrainingSet:
    settings = train_settings(start, cache, augment=augmentation)
    return loop_of(planned(collection, settings), cache / "checkpoint").training_set


def all_batches(examples: TrainingSet, epoch: int, *, size: int, first: int = 0) -> list[list[Any]]:
    """Return, for each step, every worker's batches."""
    parts = [
        list(examples.steps(epoch, first=first, step_size=8, micro=2, rank=rank, size=size)) for rank in range(size)
    ]
    return [[part[step][1] for part in parts] for step in range(len(parts[0]))]


@pytest.mark.processes
@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_number_of_workers_sees_the_same_clips(collection: Path, start: Path, tmp_path: Path, size: int) -> None:
    examples = training_set(collection, start, tmp_path, mixup=0.4, roll=True)
    expected = [examples.example(int(number), 1) for number in examples.order(1)]
    steps = all_batches(examples, 1, size=size)
    assert len(steps) == examples.num_steps(8) == 3
    seen = []
    for workers in steps:
        assert len({len(batches) for batches in workers}) == 1, "a worker would wait for another's gradients"
        for batches in workers:
            for batch in batches:
                kept = [index for index, weight in enumerate(batch.weights) if weight]
                seen += [(batch.waveforms[index], batch.targets[index]) for index in kept]
    assert len(seen) == len(expected)
    for (waveform, target), (wanted, label) in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(waveform, wanted)
        np.testing.assert_array_equal(target, label)


@pytest.mark.processes
def test_a_run_taken_up_in_the_middle_sees_what_is_left(collection: Path, start: Path, tmp_path: Path) -> None:
    examples = training_set(collection, start, tmp_path, noise_db=20.0)
    whole, rest = all_batches(examples, 0, size=1), all_batches(examples, 0, size=1, first=1)
    for one, other in zip(whole[1:], rest, strict=True):
        np.testing.assert_array_equal(one[0][0].waveforms[0], other[0][0].waveforms[0])


@pytest.mark.processes
def test_every_epoch_has_another_order_and_other_crops(collection: Path, start: Path, tmp_path: Path) -> None:
    examples = training_set(collection, start, tmp_path)
    assert list(examples.order(0)) != list(examples.order(1))
    assert not np.array_equal(examples.example(0, 0)[0], examples.example(0, 1)[0])
    fixed = training_set(collection, start, tmp_path, crop=False)
    np.testing.assert_array_equal(fixed.example(0, 0)[0], fixed.example(0, 1)[0])


@pytest.mark.processes
def test_mixed_targets_follow_the_audio(collection: Path, start: Path, tmp_path: Path) -> None:
    examples = training_set(collection, start, tmp_path, mixup=0.4)
    targets = np.stack([examples.example(number, 0)[1] for number in range(len(examples.examples))])
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, rtol=1e-5)
    assert ((targets > 0.01) & (targets < 0.99)).any()
    assert (targets.max(axis=1) >= 0.5).all()


def test_clips_of_other_lengths_are_padded_as_the_reference_does(tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor

    from tonearm.models.features import build_features
    from tonearm.training.fit.examples import model_inputs

    checkpoint = save_small(tmp_path, "hubert", extractor={"return_attention_mask": True})
    extractor = AutoFeatureExtractor.from_pretrained(checkpoint)
    waveforms = [tone(440, 1.0), tone(600, 0.4), tone(300, 0.7)]
    expected = extractor(waveforms, sampling_rate=RATE, return_tensors="pt", padding=True)
    made = model_inputs(build_features(extractor), waveforms, "cpu")
    torch.testing.assert_close(made["input_values"], expected["input_values"], rtol=0, atol=1e-4)
    torch.testing.assert_close(made["attention_mask"], expected["attention_mask"].long())
