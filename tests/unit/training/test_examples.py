"""What a model sees depends on the seed, the epoch and the clip alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoints import save_small
from tests.labelled import loop_of, planned, train_settings
from tonearm.settings import AugmentSettings
from tonearm.training.data.augment import augment, generator, mix
from tonearm.training.fit.examples import TrainingSet

RATE = 16000


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


def tone(frequency_hz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def level_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-20))


def done_to(waveform: np.ndarray, seed: int = 0, **settings: Any) -> np.ndarray:
    made = augment(waveform, RATE, AugmentSettings(**settings), generator(seed))
    assert made.dtype == np.float32
    assert made.shape == waveform.shape
    return made


def test_nothing_is_done_by_default() -> None:
    np.testing.assert_array_equal(done_to(tone(440)), tone(440))


def test_gain_and_noise_keep_to_their_decibels() -> None:
    changes = [level_db(done_to(tone(440), seed, gain_db=6.0)) - level_db(tone(440)) for seed in range(50)]
    assert max(map(abs, changes)) <= 6.01
    assert np.ptp(changes) > 6
    noises = [level_db(done_to(tone(440), seed, noise_db=20.0) - tone(440)) - level_db(tone(440)) for seed in range(50)]
    assert max(noises) < -19.5
    assert min(noises) < -30


def test_rolling_keeps_every_sample() -> None:
    made = done_to(tone(440), roll=True)
    assert not np.array_equal(made, tone(440))
    np.testing.assert_array_equal(np.sort(made), np.sort(tone(440)))


def test_speed_moves_the_pitch() -> None:
    peaks = []
    for seed in range(30):
        made = done_to(tone(1000), seed, speed=0.2)
        peaks.append(np.abs(np.fft.rfft(made)).argmax())
    assert 790 <= min(peaks) < 900
    assert 1100 < max(peaks) <= 1210


def test_masks_take_out_stretches_of_time_and_bands() -> None:
    noise = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    silent = [float(np.mean(done_to(noise, seed, time_masks=1, time_mask_s=0.5) == 0)) for seed in range(30)]
    assert 0.3 < max(silent) <= 0.5
    bands = []
    for seed in range(30):
        power = np.abs(np.fft.rfft(done_to(noise, seed, frequency_masks=1)))
        bands.append(float(np.mean(power < 1e-3)))
    assert 0.02 < max(bands) < 0.45
    low = np.abs(np.fft.rfft(done_to(noise, 3, bandwidth_hz=3000.0)))
    assert low[7500:].mean() < low[:2500].mean()


def test_mixup_mixes_at_equal_levels() -> None:
    mixed = mix(tone(440), 100 * tone(880), 0.75)
    power = np.abs(np.fft.rfft(mixed))
    assert power[440] / power[880] == pytest.approx(3.0, rel=0.01)
    assert len(mix(tone(440), tone(880, 0.3), 0.5)) == RATE


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
