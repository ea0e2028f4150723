"""Augmentation changes the waveform as far as its settings say, and nothing without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.labelled import RATE, tone
from tonearm.settings import AugmentSettings
from tonearm.training.data.augment import augment, generator, mix


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
