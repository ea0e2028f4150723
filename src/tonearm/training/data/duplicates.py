"""Clips that stand on both sides of a split: the same samples, or the same music encoded, cut or levelled otherwise.

A figure over such clips is of memory, not of learning; GTZAN is the known example (arXiv:1306.1461). Candidates are
neighbours by embedding; each is then compared at every offset in time by Haitsma and Kalker's audio fingerprint (ISMIR
2002): whether the energy of each band against the next grows or shrinks from frame to frame.

Letters in shapes: T frames, B bands, D embedding dimensions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from tonearm.training.data.cache import Clip, ClipCache
from tonearm.wording import counted

FRAME_S, HOP_S, NUM_BANDS, LONGEST_S = 0.256, 0.016, 33, 60.0
LOWEST_HZ, HIGHEST_HZ = 200, 5000
NUM_NEIGHBOURS = 8
FINGERPRINTS_KEPT = 4096
# Frames this far below a clip's loudest hold noise or silence, whose signs mean nothing.
FLOOR_DB = 50.0
LEAST_OVERLAP_S = 0.5
# Copies reach 0.65, whatever was done to them; other recordings 0.23, and loops of one drum machine 0.42.
LEAST_ALIKE = 0.5
NUM_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """A held-out clip and the one in training that it equals; ``likeness`` is 1 for the same samples."""

    side: str
    held_out: int
    trained_on: int
    likeness: float

    @property
    def is_exact(self) -> bool:
        """Whether the samples are the same."""
        return self.likeness == 1.0


def find_twins(cache: ClipCache, sides: Mapping[str, Sequence[int]], num_threads: int = 1) -> list[Duplicate]:
    """Return for each held-out clip every one of those trained on that equals it, the likest first.

    Args:
        sides: numbers in the cache, by side; ``train`` is compared with each of the others.
    """
    train = [number for number in sides.get("train", ()) if number not in cache.errors]
    held = [(side, number) for side, numbers in sides.items() if side != "train" for number in numbers]
    held = [(side, number) for side, number in held if number not in cache.errors]
    if not train or not held:
        return []
    by_digest: dict[str, list[int]] = defaultdict(list)
    for number in train:
        by_digest[cache.clip(number).digest].append(number)

    @functools.lru_cache(maxsize=FINGERPRINTS_KEPT)
    def made(number: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        return fingerprint(cache.clip(number), cache.plan.sample_rate)

    numbers = sorted({*train, *(number for _, number in held)})
    with ThreadPoolExecutor(num_threads, thread_name_prefix="fingerprints") as pool:
        vectors = dict(zip(numbers, pool.map(lambda number: made(number)[1], numbers), strict=True))
    twins = []
    for side, number, neighbours in _neighbours(held, train, vectors):
        same = by_digest.get(cache.clip(number).digest, [])
        twins += [Duplicate(side, number, other, 1.0) for other in same]
        is_same = set(same)
        others = [other for other in neighbours if other not in is_same]
        alike: list[tuple[float, int]] = []
        for first in range(0, len(others), NUM_NEIGHBOURS):
            nearest = others[first : first + NUM_NEIGHBOURS]
            pairs = [(likeness_of(made(number)[0], made(other)[0]), other) for other in nearest]
            copies = [pair for pair in pairs if pair[0] >= LEAST_ALIKE]
            alike += copies
            if not copies:  # copies are nearest: further on there are none
                break
        twins += [
            Duplicate(side, number, other, min(likeness, 0.9999)) for likeness, other in sorted(alike, reverse=True)
        ]
    return twins


def _neighbours(
    held: list[tuple[str, int]], train: list[int], vectors: Mapping[int, NDArray[np.float32]]
) -> Iterator[tuple[str, int, list[int]]]:
    """Yield each held-out clip with those trained on, nearest first by cosine once every dimension counts the same."""
    if not held:
        return
    known = np.stack([vectors[number] for number in train]).astype(np.float64)
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-9
    known = _unit((known - mean) / spread)
    for side, number in held:
        wanted = _unit((vectors[number].astype(np.float64) - mean) / spread)
        order = np.argsort(-(known @ wanted), kind="stable")
        yield side, number, [train[index] for index in order]


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)


def fingerprint(clip: Clip, sample_rate: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the signs [T, B] in {-1, 0, 1} of a clip's first minute, and its summary [D]."""
    import librosa

    waveform = clip.beginning(int(LONGEST_S * sample_rate))
    frame, hop = round(FRAME_S * sample_rate), round(HOP_S * sample_rate)
    waveform = np.pad(waveform, (0, max(0, frame + 2 * hop - len(waveform))))
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=sample_rate,
        n_fft=frame,
        hop_length=hop,
        n_mels=NUM_BANDS,
        fmin=LOWEST_HZ,
        fmax=min(HIGHEST_HZ, sample_rate / 2),
        center=False,
    ).T
    level_db = 10 * np.log10(np.maximum(power, 1e-12))
    slope = np.diff(level_db, axis=1)
    signs = np.sign(np.diff(slope, axis=0)).astype(np.int8)
    loud = power.sum(axis=1)
    signs[loud[1:] < loud.max() * 10 ** (-FLOOR_DB / 10) + 1e-10] = 0
    level_db = np.maximum(level_db - level_db.max(), -FLOOR_DB)
    moves = np.abs(np.diff(level_db, axis=0)).mean(axis=0)
    return signs, np.concatenate([level_db.mean(axis=0), level_db.std(axis=0), moves]).astype(np.float32)


def likeness_of(first: NDArray[np.int8], second: NDArray[np.int8]) -> float:
    """Return the largest agreement of two fingerprints [T, B] over all offsets: 1 for the same, about 0 for chance."""
    from scipy.signal import fftconvolve

    agreement = fftconvolve(first.astype(np.float32), second[::-1].astype(np.float32), axes=0).sum(axis=1)
    counted = [np.abs(signs).max(axis=1).astype(np.float64) for signs in (first, second)]
    overlap = np.round(fftconvolve(counted[0], counted[1][::-1]))
    least = max(round(LEAST_OVERLAP_S / HOP_S), 0.5 * min(part.sum() for part in counted))
    values = np.where(overlap >= least, agreement / (np.maximum(overlap, 1) * first.shape[1]), 0.0)
    return float(np.clip(values.max(), 0.0, 1.0))


def count_by_side(twins: Sequence[Duplicate]) -> dict[str, tuple[int, int]]:
    """Return ``side -> (held-out clips with the same samples in training, others that are alike)``."""
    exact: dict[str, dict[int, bool]] = defaultdict(dict)
    for twin in twins:
        exact[twin.side][twin.held_out] = exact[twin.side].get(twin.held_out, False) or twin.is_exact
    return {side: (sum(clips.values()), len(clips) - sum(clips.values())) for side, clips in exact.items()}


def describe_twins(twins: Sequence[Duplicate], names: Sequence[str], *, is_dropped: bool) -> list[str]:
    """Return a line for each side with clips that are in training too.

    Args:
        names: of the clips, by their numbers in the cache.
    """
    lines = []
    for side, (exact, alike) in count_by_side(twins).items():
        pairs = [twin for twin in twins if twin.side == side]
        found = list({twin.held_out: twin for twin in reversed(pairs)}.values())[::-1]  # the likest of each
        copies = len({twin.trained_on for twin in pairs})
        named = "; ".join(
            f"{names[twin.held_out]} = {names[twin.trained_on]} ({twin.likeness:.2f})" for twin in found[:NUM_NAMED]
        )
        lines.append(
            f"{counted(exact + alike, 'clip', f'of {side} is', f'of {side} are')} in training too ({exact} with the "
            f"same samples), as {counted(copies, 'clip')} there: {named}{' ...' if len(found) > NUM_NAMED else ''}"
            + ("" if is_dropped else "; --duplicates drop takes them out of training")
        )
    return lines
