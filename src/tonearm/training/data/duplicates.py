"""Find clips on both sides of a split: the same samples, or the same music with another encoding, cut or level.

Figures over such clips show what a model remembers and not what it has learnt; GTZAN is the known example
(arXiv:1306.1461). Candidates are the nearest neighbours by a summary of the spectrum. Each is then compared at every
offset in time by Haitsma and Kalker's audio fingerprint (ISMIR 2002): whether the difference in energy of two
neighbouring bands grows or shrinks from frame to frame.

Letters in shapes: T frames, B bands, D embedding dimensions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tonearm.training.data.clips import Clip, ClipSet
from tonearm.training.data.collection import ClipId
from tonearm.wording import counted

FRAME_S, HOP_S, NUM_BANDS, LONGEST_S = 0.256, 0.016, 33, 60.0
LOWEST_HZ, HIGHEST_HZ = 200, 5000
NUM_NEIGHBOURS = 8
MOST_FINGERPRINTS = 4096
# Frames this far below a clip's loudest one are noise or silence, whose signs are random.
FLOOR_DB = 50.0
LEAST_OVERLAP_S = 0.5
# Measured: copies reach at least 0.65 after any change; other recordings at most 0.23, loops of a drum machine 0.42.
LEAST_ALIKE = 0.5
NUM_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """A held-out clip and its copy in training; ``likeness`` is 1 for the same samples, else less."""

    side: str
    held_out: ClipId
    trained_on: ClipId
    likeness: float

    @property
    def is_exact(self) -> bool:
        """Whether the samples are the same."""
        return self.likeness == 1.0


class AcousticFingerprints:
    """The acoustic fingerprints of clips, computed when first needed and shared by several splits.

    All summaries are cached, and the signs of the last ``MOST_FINGERPRINTS`` clips.
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
        fingerprint = acoustic_fingerprint(self.clips.clip(clip), self.clips.plan.sample_rate)
        self._summaries[clip] = fingerprint.summary
        return fingerprint.signs


def find_duplicates(
    fingerprints: AcousticFingerprints, sides: Mapping[str, Sequence[ClipId]], num_threads: int = 1
) -> list[Duplicate]:
    """Return for each held-out clip its copies among the training clips, the most alike first.

    Args:
        sides: clips by side; those of ``train`` are compared with those of all other sides.
    """
    clips, errors = fingerprints.clips, fingerprints.clips.errors
    train = [clip for clip in sides.get("train", ()) if clip not in errors]
    held_out = [(side, clip) for side, of_side in sides.items() if side != "train" for clip in of_side]
    held_out = [(side, clip) for side, clip in held_out if clip not in errors]
    if not train or not held_out:
        return []
    by_digest: dict[str, list[ClipId]] = defaultdict(list)
    for clip in train:
        by_digest[clips.clip(clip).digest].append(clip)
    compared = {*train, *(clip for _, clip in held_out)}
    summaries = fingerprints.summaries([clip for clip in clips.refs if clip in compared], num_threads)
    duplicates = []
    for side, clip, neighbours in _rank_neighbours(held_out, train, summaries):
        exact_copies = by_digest.get(clips.clip(clip).digest, [])
        duplicates += [Duplicate(side, clip, other, 1.0) for other in exact_copies]
        other_neighbours = [other for other in neighbours if other not in set(exact_copies)]
        duplicates += [
            # 1 means the same samples; these have another digest.
            Duplicate(side, clip, other, min(likeness, 0.9999))
            for likeness, other in _find_copies(fingerprints, clip, other_neighbours)
        ]
    return duplicates


def _find_copies(
    fingerprints: AcousticFingerprints, clip: ClipId, neighbours: Sequence[ClipId]
) -> list[tuple[float, ClipId]]:
    """Return the copies of a clip among its neighbours, which are sorted by distance; the most alike first."""
    alike: list[tuple[float, ClipId]] = []
    for first in range(0, len(neighbours), NUM_NEIGHBOURS):
        nearest = neighbours[first : first + NUM_NEIGHBOURS]
        pairs = [(likeness_of(fingerprints.signs(clip), fingerprints.signs(other)), other) for other in nearest]
        copies = [pair for pair in pairs if pair[0] >= LEAST_ALIKE]
        alike += copies
        # Copies are among the nearest neighbours: after eight neighbours without a copy there are no more.
        if not copies:
            break
    if not alike:
        return []
    positions = {other: place for place, other in enumerate(fingerprints.clips.refs)}
    return sorted(alike, key=lambda pair: (pair[0], positions[pair[1]]), reverse=True)


def _rank_neighbours(
    held_out: list[tuple[str, ClipId]], train: list[ClipId], summaries: Mapping[ClipId, NDArray[np.float32]]
) -> Iterator[tuple[str, ClipId, list[ClipId]]]:
    """Yield each held-out clip with all training clips, by cosine distance of their standardized summaries."""
    train_summaries = np.stack([summaries[clip] for clip in train]).astype(np.float64)
    mean, spread = train_summaries.mean(axis=0), train_summaries.std(axis=0) + 1e-9
    train_summaries = _to_unit_length((train_summaries - mean) / spread)
    for side, clip in held_out:
        summary = _to_unit_length((summaries[clip].astype(np.float64) - mean) / spread)
        order = np.argsort(-(train_summaries @ summary), kind="stable")
        yield side, clip, [train[index] for index in order]


def _to_unit_length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)


class Fingerprint(NamedTuple):
    """Signs [T, B] in {-1, 0, 1} of a clip's first minute, and its summary [D]: level, spread and movement."""

    signs: NDArray[np.int8]
    summary: NDArray[np.float32]


def acoustic_fingerprint(clip: Clip, sample_rate: int) -> Fingerprint:
    """Return the fingerprint of a clip."""
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
    # The 1e-10 is for clips that are silent throughout: no frame of them has signs.
    signs[loud[1:] < loud.max() * 10 ** (-FLOOR_DB / 10) + 1e-10] = 0
    level_db = np.maximum(level_db - level_db.max(), -FLOOR_DB)
    moves = np.abs(np.diff(level_db, axis=0)).mean(axis=0)
    summary = np.concatenate([level_db.mean(axis=0), level_db.std(axis=0), moves]).astype(np.float32)
    return Fingerprint(signs, summary)


def likeness_of(first: NDArray[np.int8], second: NDArray[np.int8]) -> float:
    """Return the largest agreement of two fingerprints [T, B] over all offsets: 1 for the same, about 0 for chance."""
    from scipy.signal import fftconvolve

    # Correlation by FFT: all offsets at once.
    agreement = fftconvolve(first.astype(np.float32), second[::-1].astype(np.float32), axes=0).sum(axis=1)
    has_signs = [np.abs(signs).max(axis=1).astype(np.float64) for signs in (first, second)]
    # Silent frames have no signs, so they do not count as overlap.
    overlap = np.round(fftconvolve(has_signs[0], has_signs[1][::-1]))
    min_overlap = max(round(LEAST_OVERLAP_S / HOP_S), 0.5 * min(part.sum() for part in has_signs))
    agreement_shares = np.where(overlap >= min_overlap, agreement / (np.maximum(overlap, 1) * first.shape[1]), 0.0)
    return float(np.clip(agreement_shares.max(), 0.0, 1.0))


def count_by_side(duplicates: Sequence[Duplicate]) -> dict[str, tuple[int, int]]:
    """Return by side the number of held-out clips with the same samples in training, and of other copies."""
    exact: dict[str, dict[ClipId, bool]] = defaultdict(dict)
    for pair in duplicates:
        exact[pair.side][pair.held_out] = exact[pair.side].get(pair.held_out, False) or pair.is_exact
    return {side: (sum(clips.values()), len(clips) - sum(clips.values())) for side, clips in exact.items()}


def describe_duplicates(duplicates: Sequence[Duplicate], names: Mapping[ClipId, str], *, is_dropped: bool) -> list[str]:
    """Return a line for each side with clips that are in training too.

    Args:
        names: the clips' names for the line.
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
