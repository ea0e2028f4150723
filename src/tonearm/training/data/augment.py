"""Augmentation of waveforms before a model sees them: a pure function of settings and a generator.

Letters in shapes: S samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tonearm.settings import AugmentSettings

Floats = NDArray[np.float32]
SPEED_MARGIN = 1.0


def generator(seed: int, *place: int) -> np.random.Generator:
    """Return the generator of one place, such as (epoch, clip): the same on every machine and for any worker count."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *place])))


def augment(waveform: Floats, sample_rate: int, settings: AugmentSettings, rng: np.random.Generator) -> Floats:
    """Return float32 [S] with everything of ``settings`` done to it that concerns one clip alone.

    Args:
        waveform: float32 [S].
    """
    if settings.speed:
        waveform = _faster(waveform, rng.uniform(1 - settings.speed, 1 + settings.speed))
    if settings.roll:
        waveform = np.roll(waveform, int(rng.integers(len(waveform))))
    if settings.tilt_db or settings.frequency_masks or settings.bandwidth_hz is not None:
        waveform = _shape(waveform, sample_rate, settings, rng)
    if settings.noise_db is not None:
        # Relative to the clip's level, so that a quiet clip is not drowned.
        level = np.sqrt(np.mean(np.square(waveform))) * 10 ** (-(settings.noise_db + rng.exponential(10.0)) / 20)
        waveform = waveform + (level * rng.standard_normal(len(waveform), np.float32)).astype(np.float32)
    if settings.gain_db:
        waveform = waveform * np.float32(10 ** (rng.uniform(-settings.gain_db, settings.gain_db) / 20))
    if settings.time_masks:
        waveform = waveform.copy()
        for _ in range(settings.time_masks):
            length = int(rng.uniform(0, min(settings.time_mask_s * sample_rate, 0.5 * len(waveform))))
            start = int(rng.integers(len(waveform) - length + 1))
            waveform[start : start + length] = 0
    return np.ascontiguousarray(waveform, np.float32)


def mix(first: Floats, second: Floats, share: float) -> Floats:
    """Return mixup's waveform: ``share`` of the first [S], the rest of the second at the first's level."""
    second = np.resize(second, len(first)) if len(second) < len(first) else second[: len(first)]
    # At one level, or the louder clip would be heard alone whatever the share says.
    level, other = _level(first), _level(second)
    return (share * first + (1 - share) * second * (level / other if other else 0.0)).astype(np.float32)


def _level(waveform: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def _faster(waveform: Floats, factor: float) -> Floats:
    """Return the waveform at another speed and pitch, as long as it was: its end is cut off, or comes round again."""
    places = (np.arange(len(waveform)) * factor) % max(1, len(waveform) - 1)
    return np.interp(places, np.arange(len(waveform)), waveform).astype(np.float32)


def _shape(waveform: Floats, sample_rate: int, settings: AugmentSettings, rng: np.random.Generator) -> Floats:
    """Tilt the spectrum, and take out bands: SpecAugment's frequency masks, as a waveform model can see them."""
    spectrum = np.fft.rfft(waveform)
    frequency_hz = np.fft.rfftfreq(len(waveform), 1 / sample_rate)
    if settings.tilt_db:
        octaves = np.log2(np.clip(frequency_hz / 1000, 0.05, None))
        spectrum *= 10 ** (rng.uniform(-settings.tilt_db, settings.tilt_db) * octaves / 20)
    if settings.bandwidth_hz is not None:
        highest = np.log(max(settings.bandwidth_hz, 1.2 * sample_rate / 2))
        cutoff_hz = np.exp(rng.uniform(np.log(settings.bandwidth_hz), highest))
        spectrum /= 1 + (frequency_hz / cutoff_hz) ** 12
    for _ in range(settings.frequency_masks):
        # Bands as wide on the mel scale as a mask is on a mel spectrogram.
        top = 2595 * np.log10(1 + sample_rate / 2 / 700)
        width = rng.uniform(0, settings.frequency_mask_share) * top
        low = rng.uniform(0, top - width)
        edges_hz = 700 * (10 ** (np.array([low, low + width]) / 2595) - 1)
        spectrum[(frequency_hz >= edges_hz[0]) & (frequency_hz < edges_hz[1])] = 0
    return np.fft.irfft(spectrum, len(waveform)).astype(np.float32)
