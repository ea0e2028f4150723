"""What musicnn says of kinds of sound, and what the choices in its features change.

tonearm models add musicnn
python -m bench.musicnn_table rock='MUSIC/rock/*.ogg' speech='SPEECH/*.wav' [--model musicnn-msd]

Noise and silence are made here. The first table has each kind's five strongest tags, by the mean over its tracks of
what ``tonearm tag`` would write, and how sure it is of the first tag of a track. The second compares, window by window,
what is made of a waveform by other ways to compute the features with what tonearm computes.
"""

from __future__ import annotations

import argparse
import glob
from collections.abc import Callable, Iterator
from pathlib import Path

import librosa
import numpy as np
import torch
from numpy.typing import NDArray

from tonearm.audio.decode import decode_waveform
from tonearm.models.checkpoint import load_model
from tonearm.models.features import build_features
from tonearm.models.pooling import sigmoid

Floats = NDArray[np.float32]
RATE, HOP, FRAMES = 16000, 256, 187
WINDOW = HOP * FRAMES
NUM_TAGS, MADE_S, SEED = 5, 30, 0


def made() -> dict[str, list[Floats]]:
    """Return what no file is needed for."""
    rng = np.random.default_rng(SEED)
    white = rng.standard_normal((5, MADE_S * RATE))
    shaped = np.fft.rfft(white) / np.sqrt(np.arange(1, white.shape[1] // 2 + 2))
    pink = np.fft.irfft(shaped)
    return {
        "white noise (made)": [0.1 * row.astype(np.float32) for row in white],
        "pink noise (made)": [(0.1 * row / row.std()).astype(np.float32) for row in pink],
        "digital silence (made)": [np.zeros(MADE_S * RATE, np.float32)],
    }


def cut(waveform: Floats) -> Floats:
    """Return whole windows [windows, samples] from the start."""
    return waveform[: len(waveform) // WINDOW * WINDOW].reshape(-1, WINDOW)


def log_mel(waveform: Floats, pad_mode: str = "reflect", *, is_half: bool = True) -> Floats:
    """Return frames [T, M] of a whole track by librosa, as the published package makes them."""
    mel = librosa.feature.melspectrogram(y=waveform, sr=RATE, hop_length=HOP, n_fft=512, n_mels=96, pad_mode=pad_mode)
    kept = mel.T.astype(np.float16).astype(np.float32) if is_half else mel.T
    logarithms: Floats = np.log10(10000 * kept + 1)
    return logarithms


def patches(frames: Floats) -> Floats:
    """Return [windows, T, M]."""
    return frames[: len(frames) // FRAMES * FRAMES].reshape(-1, FRAMES, frames.shape[1])


def each_window(waveform: Floats, pad_mode: str, *, is_half: bool) -> Floats:
    """Return [windows, T, M], each window's spectrogram made by itself."""
    return np.stack([log_mel(window, pad_mode, is_half=is_half)[:FRAMES] for window in cut(waveform)])


OTHERS: dict[str, Callable[[Floats], Floats]] = {
    "librosa, each window by itself: should be equal": lambda wave: each_window(wave, "reflect", is_half=True),
    "the whole track's spectrogram, then cut, as the package does": lambda wave: patches(log_mel(wave)),
    "zeros at the ends, as librosa has had since 0.10": lambda wave: each_window(wave, "constant", is_half=True),
    "no rounding to float16": lambda wave: each_window(wave, "reflect", is_half=False),
}


class Scorer:
    """A musicnn in torch."""

    def __init__(self, name: str) -> None:
        self.model, extractor = load_model(name, revision=None, allow_pickle=False)
        self.features = build_features(extractor)
        self.labels = [self.model.config.id2label[number] for number in range(self.model.config.num_labels)]

    def of_features(self, features: Floats) -> Floats:
        """Return scores [windows, tags]."""
        with torch.inference_mode():
            parts = [self.model(part).logits.numpy() for part in torch.from_numpy(features).split(8)]
        return sigmoid(np.concatenate(parts))

    def of_waveform(self, waveform: Floats) -> Floats:
        """Return scores [windows, tags] by tonearm's own features."""
        return self.of_features(self.features(torch.from_numpy(cut(waveform)))["input_features"].numpy())


def rows(scorer: Scorer, kinds: dict[str, list[Floats]]) -> Iterator[str]:
    """Yield the first table's rows."""
    for kind, waveforms in kinds.items():
        tracks = np.stack([scorer.of_waveform(waveform).mean(axis=0) for waveform in waveforms])
        mean, first = tracks.mean(axis=0), tracks.max(axis=1)
        strongest = ", ".join(f"{scorer.labels[tag]} {mean[tag]:.2f}" for tag in mean.argsort()[::-1][:NUM_TAGS])
        yield f"| {kind} | {len(tracks)} | {strongest} | {np.median(first):.2f} |"


def changes(scorer: Scorer, waveforms: list[Floats]) -> Iterator[str]:
    """Yield the second table's rows."""
    expected = np.concatenate([scorer.of_waveform(waveform) for waveform in waveforms])
    for name, make in OTHERS.items():
        found = np.concatenate([scorer.of_features(make(waveform)) for waveform in waveforms])
        moves = np.abs(found - expected).max(axis=1)
        same = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
        yield f"| {name} | {np.median(moves):.4f} | {np.percentile(moves, 99):.4f} | {same:.1%} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.musicnn_table")
    parser.add_argument("kinds", nargs="+", metavar="KIND=GLOB")
    parser.add_argument("--model", default="musicnn")
    arguments = parser.parse_args()
    kinds = {}
    for kind, _, pattern in (text.partition("=") for text in arguments.kinds):
        files = sorted(glob.glob(pattern, recursive=True))
        waveforms = [decode_waveform(Path(file).read_bytes(), RATE)[0] for file in files]
        kinds[kind] = [waveform for waveform in waveforms if len(waveform) >= WINDOW]
    scorer = Scorer(arguments.model)
    print(f"| {arguments.model}: kind | tracks | strongest tags, mean score | first tag, median |\n|---|---:|---|---:|")
    print("\n".join(rows(scorer, kinds | made())))
    print("\n| instead of tonearm's features | largest move of a score, median | 99% | same first tag |")
    print("|---|---:|---:|---:|")
    print("\n".join(changes(scorer, [waveform for kind in kinds.values() for waveform in kind[:5]])))


if __name__ == "__main__":
    main()
