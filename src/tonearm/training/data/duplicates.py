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

from tonearm.training.data.clips import Clip, ClipSet
from tonearm.training.data.collection import ClipId
from tonearm.wording import counted

FRAME_S, HOP_S, NUM_BANDS, LONGEST_S = 0.256, 0.016, 33, 60.0
LOWEST_HZ, HIGHEST_HZ = 200, 5000
NUM_NEIGHBOURS = 8
MOST_FINGERPRINTS = 4096
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
    held_out: ClipId
    trained_on: ClipId
    likeness: float

    @property
    def is_exact(self) -> bool:
        """Whether the samples are the same."""
        return self.likeness == 1.0


class AcousticFingerprints:
    """The acoustic fingerprints of clips, each made once, by whichever split asks for it first.

    All summaries are kept, and the signs of the last ``MOST_FINGERPRINTS`` clips.
    """

    def __init__(self, clips: ClipSet) -> None:
        self.clips = clips
        # The signs take 60 KB per clip, so those of a large collection would not fit in memory.
        self.signs = functools.lru_cache(maxsize=MOST_FINGERPRINTS)(self._signs)
        self._summaries: dict[ClipId, NDArray[np.float32]] = {}

    def summaries(self, clips: Sequence[ClipId], num_threads: int) -> dict[ClipId, NDArray[np.float32]]:
        """Return each clip's summary [D]."""
        missing = [clip for clip in clips if clip not in self._summaries]
        with ThreadPoolExecutor(num_threads, thread_name_prefix="fingerprints") as pool:
            list(pool.map(self.signs, missing))
        return {clip: self._summaries[clip] for clip in clips}

    def _signs(self, clip: ClipId) -> NDArray[np.int8]:
        signs, self._summaries[clip] = acoustic_fingerprint(self.clips.clip(clip), self.clips.plan.sample_rate)
        return signs


def find_duplicates(
    fingerprints: AcousticFingerprints, sides: Mapping[str, Sequence[ClipId]], num_threads: int = 1
) -> list[Duplicate]:
    """Return for each held-out clip every one of those trained on that equals it, the likest first.

    Args:
        sides: clips by side; those of ``train`` are compared with each of the others.
    """
    clips, errors = fingerprints.clips, fingerprints.clips.errors
    train = [clip for clip in sides.get("train", ()) if clip not in errors]
    held = [(side, clip) for side, of_side in sides.items() if side != "train" for clip in of_side]
    held = [(side, clip) for side, clip in held if clip not in errors]
    if not train or not held:
        return []
    by_digest: dict[str, list[ClipId]] = defaultdict(list)
    for clip in train:
        by_digest[clips.clip(clip).digest].append(clip)
    compared = {*train, *(clip for _, clip in held)}
    summaries = fingerprints.summaries([clip for clip in clips.refs if clip in compared], num_threads)
    duplicates = []
    for side, clip, neighbours in _neighbours(held, train, summaries):
        same = by_digest.get(clips.clip(clip).digest, [])
        duplicates += [Duplicate(side, clip, other, 1.0) for other in same]
        others = [other for other in neighbours if other not in set(same)]
        duplicates += [
            # 1 means the same samples, and these have another digest.
            Duplicate(side, clip, other, min(likeness, 0.9999))
            for likeness, other in _alike(fingerprints, clip, others)
        ]
    return duplicates


def _alike(
    fingerprints: AcousticFingerprints, clip: ClipId, neighbours: Sequence[ClipId]
) -> list[tuple[float, ClipId]]:
    """Return the copies of a clip among its neighbours, the nearest of which come first, the likest first."""
    alike: list[tuple[float, ClipId]] = []
    for first in range(0, len(neighbours), NUM_NEIGHBOURS):
        nearest = neighbours[first : first + NUM_NEIGHBOURS]
        pairs = [(likeness_of(fingerprints.signs(clip), fingerprints.signs(other)), other) for other in nearest]
        copies = [pair for pair in pairs if pair[0] >= LEAST_ALIKE]
        alike += copies
        # Copies are the nearest neighbours: after eight without any there are no more.
        if not copies:
            break
    if not alike:
        return []
    places = {other: place for place, other in enumerate(fingerprints.clips.refs)}
    return sorted(alike, key=lambda pair: (pair[0], places[pair[1]]), reverse=True)


def _neighbours(
    held: list[tuple[str, ClipId]], train: list[ClipId], summaries: Mapping[ClipId, NDArray[np.float32]]
) -> Iterator[tuple[str, ClipId, list[ClipId]]]:
    """Yield each held-out clip with those trained on, nearest first by cosine once every dimension counts the same."""
    known = np.stack([summaries[clip] for clip in train]).astype(np.float64)
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-9
    known = _unit((known - mean) / spread)
    for side, clip in held:
        summary = _unit((summaries[clip].astype(np.float64) - mean) / spread)
        order = np.argsort(-(known @ summary), kind="stable")
        yield side, clip, [train[index] for index in order]


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)


def acoustic_fingerprint(clip: Clip, sample_rate: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the signs [T, B] in {-1, 0, 1} of a clip's first minute, and its summary [D]."""
    import librosa

    waveform = clip.beginning(int(LONGEST_S * sample_rate))
    frame, hop = round(FRAME_S * sample_rate), round(HOP_S * sample_rate)
    # A sign needs two frames, so a shorter clip is padded to have one at least.
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
    # Silent frames have no signs, so an overlap of silence is no overlap.
    overlap = np.round(fftconvolve(counted[0], counted[1][::-1]))
    least = max(round(LEAST_OVERLAP_S / HOP_S), 0.5 * min(part.sum() for part in counted))
    values = np.where(overlap >= least, agreement / (np.maximum(overlap, 1) * first.shape[1]), 0.0)
    return float(np.clip(values.max(), 0.0, 1.0))


def count_by_side(duplicates: Sequence[Duplicate]) -> dict[str, tuple[int, int]]:
    """Return ``side -> (held-out clips with the same samples in training, others that are alike)``."""
    exact: dict[str, dict[ClipId, bool]] = defaultdict(dict)
    for pair in duplicates:
        exact[pair.side][pair.held_out] = exact[pair.side].get(pair.held_out, False) or pair.is_exact
    return {side: (sum(clips.values()), len(clips) - sum(clips.values())) for side, clips in exact.items()}


def describe_duplicates(duplicates: Sequence[Duplicate], names: Mapping[ClipId, str], *, is_dropped: bool) -> list[str]:
    """Return a line for each side with clips that are in training too.

    Args:
        names: of the clips.
    """
    lines = []
    for side, (exact, alike) in count_by_side(duplicates).items():
        pairs = [pair for pair in duplicates if pair.side == side]
        likest = list({pair.held_out: pair for pair in reversed(pairs)}.values())[::-1]
        copies = len({pair.trained_on for pair in pairs})
        named = "; ".join(
            f"{names[pair.held_out]} = {names[pair.trained_on]} ({pair.likeness:.2f})" for pair in likest[:NUM_NAMED]
        )
        lines.append(
            f"{counted(exact + alike, 'clip', f'of {side} is', f'of {side} are')} in training too ({exact} with the "
            f"same samples), as {counted(copies, 'clip')} there: {named}{' ...' if len(likest) > NUM_NAMED else ''}"
            + ("" if is_dropped else "; --duplicates drop takes them out of training")
        )
    return lines
