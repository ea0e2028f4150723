"""A whole track at a glance, however long: its envelope, and bare pictures of its spectrum to lay a timeline over."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import librosa
import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from tonearm.audio.decode import PcmStream
from tonearm.audio.plots import FLOOR_DB, FRAME, MEL_MAX_HZ, NUM_MELS, decibel

NUM_PEAKS = 1000
NUM_COLUMNS = 1000
NUM_ROWS = 256


def peaks(stream: PcmStream, num_peaks: int = NUM_PEAKS) -> list[tuple[float, float]]:
    """Return the lowest and the highest sample of ``num_peaks`` equal stretches (fewer of a very short track)."""
    pcm = stream.pcm
    edges = np.linspace(0, len(pcm), min(num_peaks, len(pcm)), endpoint=False).astype(np.int64)
    lowest, highest = np.minimum.reduceat(pcm, edges), np.maximum.reduceat(pcm, edges)
    return [
        (round(float(low) * stream.scale, 4), round(float(high) * stream.scale, 4))
        for low, high in zip(lowest, highest, strict=True)
    ]


class Spectrograms(NamedTuple):
    """A track's spectrum over time as PNG data URLs: by frequency, and in mels."""

    linear: str
    mel: str


def spectrograms(stream: PcmStream) -> Spectrograms:
    """Return both spectrograms of the whole track.

    A column is one frame of 2,048 samples; of a long track they are taken evenly, not all.
    """
    magnitude = np.abs(np.fft.rfft(_frames(stream) * np.hanning(FRAME).astype(np.float32), axis=1)).T
    bank = librosa.filters.mel(
        sr=stream.sample_rate, n_fft=FRAME, n_mels=NUM_MELS, fmax=min(MEL_MAX_HZ, stream.sample_rate / 2)
    )
    rows = magnitude[1:].reshape(NUM_ROWS, -1, magnitude.shape[1]).max(axis=1)
    return Spectrograms(linear=_png(decibel(rows)), mel=_png(decibel(np.sqrt(bank @ magnitude**2))))


def _frames(stream: PcmStream) -> NDArray[np.float32]:
    pcm = np.pad(stream.pcm, (0, max(0, FRAME - len(stream.pcm))))
    num_columns = min(NUM_COLUMNS, 1 + (len(pcm) - FRAME) // (FRAME // 8))
    starts = np.linspace(0, len(pcm) - FRAME, num_columns).astype(np.int64)
    return np.stack([pcm[start : start + FRAME] for start in starts]).astype(np.float32) * np.float32(stream.scale)


def _png(levels: NDArray[np.floating]) -> str:
    file = io.BytesIO()
    imsave(file, levels, cmap="magma", vmin=FLOOR_DB, vmax=0, origin="lower", format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
