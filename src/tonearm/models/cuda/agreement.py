"""Compare two ways to run one model: the windows that both score, and how far their scores may differ.

The windows are generated, not taken from the library, for three reasons. They exist before the first track does, so a
worker is checked before any of its scores count. They are the same on every machine and at every start, so a difference
comes from the machine. And a first batch of real tracks may be one silence repeated, which a graph that wrongly returns
the scores of the batch before it would still get right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tonearm.models.window_scores import WindowScores
from tonearm.wording import counted

NUM_WINDOWS = 16
SEED = 0

# How far a half precision may be from fp32. A label's score, a probability, may move by as much as int8's may
# (``openvino.cache.MOST_MOVE``). On these windows fp16 moves those of the demo's models by 0.001 and bf16 by 0.007.
MOST_MOVE = 0.03
# The first label must be fp32's on every window, unless fp32 itself puts its two first labels closer than a score may
# move: then either may come first within that bound.
# An embedding's error, as the share of the longest embedding's length. fp16 costs the families' small models 0.1 to
# 0.5% and bf16 0.4 to 1.8%; at 10% the cosine of the angle between both is still 0.995, so near neighbours stay near.
MOST_EMBEDDING_ERROR = 0.1
# How far a graph's replay may be from the eager pass, of the largest value. They run the same kernels on the same
# shape, but cuBLAS may add in another order while it is captured: some units of rounding, 2**-11 in fp16 and 2**-8 in
# bf16. What is wrong with a graph (an answer for other windows) is off by far more.
MOST_REPLAY_ERROR = {"fp16": 4e-3, "bf16": 3e-2, "fp32": 1e-4}


def check_windows(num_samples: int) -> NDArray[np.float32]:
    """Return windows float32 [NUM_WINDOWS, samples] of tones, noise and pulses, from silence to clipped.

    Frequencies are shares of the sample rate, so they suit any. Silence has no deviation to divide by and clipping the
    largest values there are: where a half precision runs out of range first.
    """
    random = np.random.default_rng(SEED)
    time = np.arange(num_samples)
    windows = np.empty((NUM_WINDOWS, num_samples), np.float32)
    for index, window in enumerate(windows):
        # 32 Hz to 6.4 kHz at 16 kHz.
        cycles, phases = 10 ** random.uniform(-2.7, -0.4, 5), random.uniform(0, 2 * np.pi, 5)
        tones = sum(np.sin(2 * np.pi * cycle * time + phase) for cycle, phase in zip(cycles, phases, strict=True)) / 5
        share = index / (NUM_WINDOWS - 1)
        sound = share * 0.5 * random.standard_normal(num_samples) + (1 - share) * tones
        pulses = np.sin(2 * np.pi * (index + 1) * time / num_samples) > 0
        # From -60 dB to 24 dB above full scale, which is then clipped.
        loudness = 10 ** (-3 + 4.2 * random.permutation(NUM_WINDOWS)[0] / (NUM_WINDOWS - 1))
        window[:] = np.clip(loudness * sound * np.where(pulses, 1.0, 0.1), -1, 1)
    # The last one, so that a batch of a few windows has something to hear.
    windows[-1] = 0
    return windows


def check_batches(num_windows: int, num_samples: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two batches float32 [windows, samples]: the check windows over and over, and others in every place."""
    windows, shape = check_windows(num_samples), (num_windows, num_samples)
    return np.resize(windows, shape), np.resize(np.roll(windows, NUM_WINDOWS // 2, axis=0), shape)


def half_failure(half: WindowScores, exact: WindowScores, *, is_multi: bool) -> str | None:
    """Return how a half precision differs from fp32 on the same windows by more than it may, or None.

    Args:
        half, exact: logits [windows, labels] and embeddings [windows, dim].
        is_multi: labels are independent, so a logit's sigmoid is its score and not its softmax.
    """
    if not is_finite(half):
        return "its scores are not finite numbers"
    score, exact_score = (_probabilities(scores.logits, is_multi=is_multi) for scores in (half, exact))
    if exact_score.size:
        num_others = _num_other_labels(score, exact_score)
        if num_others:
            return f"{num_others} of {counted(len(exact_score), 'test window')} get another first label"
        move = float(np.abs(score - exact_score).max())
        if move > MOST_MOVE:
            return f"a score moves by {move:.3f}, expected at most {MOST_MOVE}"
    error = _embedding_error(half.embedding, exact.embedding)
    if error > MOST_EMBEDDING_ERROR:
        return f"an embedding is off by {error:.0%} of its length, expected at most {MOST_EMBEDDING_ERROR:.0%}"
    return None


def replay_failure(replayed: WindowScores, eager: WindowScores, precision: str, *, others: WindowScores) -> str | None:
    """Return how a graph's replay differs from the eager pass over the same windows by more than it may, or None.

    Args:
        others: the eager pass over other windows, whose scores the replay must not have returned.
    """
    most = MOST_REPLAY_ERROR[precision]
    if not is_finite(replayed) and is_finite(eager):
        return "a replay's scores are not finite numbers"
    error = _relative_error(replayed, eager)
    if error > most:
        return f"a replay is off by {error:.2g} of the largest value, expected at most {most:g}"
    # An untrained model scores all sounds nearly alike, so the scores of other windows may be within the bound.
    if error > _relative_error(replayed, others):
        return "a replay answers for the windows before its own"
    return None


def is_finite(scores: WindowScores) -> bool:
    """Return whether all logits and embeddings are finite numbers."""
    return all(bool(np.isfinite(values).all()) for values in (scores.logits, scores.embedding))


def _probabilities(logits: NDArray[np.float32], *, is_multi: bool) -> NDArray[np.float64]:
    values = logits.astype(np.float64)
    if is_multi:
        return 1 / (1 + np.exp(-np.clip(values, -500, 500)))
    powers = np.exp(values - values.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _num_other_labels(score: NDArray[np.float64], exact_score: NDArray[np.float64]) -> int:
    """Return on how many windows another label comes first, of those where fp32's first leads by ``MOST_MOVE``."""
    if exact_score.shape[1] < 2:
        return 0
    second, first = np.sort(exact_score, axis=1)[:, -2:].T
    is_other = score.argmax(axis=1) != exact_score.argmax(axis=1)
    return int((is_other & (first - second >= MOST_MOVE)).sum())


def _embedding_error(half: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    if not exact.size:
        return 0.0
    # Of the longest one: that of silence may be all zeros.
    length = float(np.linalg.norm(exact.astype(np.float64), axis=1).max())
    error = float(np.linalg.norm(half.astype(np.float64) - exact, axis=1).max())
    return error / length if length else float(error > 0)


def _relative_error(scores: WindowScores, reference: WindowScores) -> float:
    """Return the largest difference as a share of the reference's largest value, of logits or embeddings."""
    errors = [0.0]
    for values, expected in ((scores.logits, reference.logits), (scores.embedding, reference.embedding)):
        # NaN and infinities that both have are no difference, though subtracting them gives NaN.
        is_alike = np.isnan(values) & np.isnan(expected) | (values == expected)
        with np.errstate(invalid="ignore"):
            distance = np.where(is_alike, 0.0, np.abs(values.astype(np.float64) - expected))
        largest = float(np.abs(expected).max(initial=0.0))
        errors.append(float(distance.max(initial=0.0)) / (largest or 1.0))
    return max(errors)
