"""The peers, each in a process of its own: python -m bench.peers {pipeline,forward} LIBRARY GENRE TAGS; prints JSON.

pipeline    a loop over ``transformers.pipeline``: librosa decodes, every window of both heads is scored, scores are
            averaged; what a person would write today, made to do the same work
forward     the forward passes alone: the same windows, decoded before the clock starts, features and both models
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16000
WINDOWS_S = {"genre": 30.0, "tags": 10.24}


def windows_of(waveform: np.ndarray, head: str) -> list[np.ndarray]:
    """Return the windows that tonearm would score."""
    from tonearm.audio.windows import WindowPlan

    samples = round(WINDOWS_S[head] * RATE)
    starts = WindowPlan(RATE, samples, samples, None, 400).starts(len(waveform))
    return [waveform[start : start + samples] for start in starts]


def decoded(library: Path) -> list[tuple[str, np.ndarray]]:
    """Return each file that decodes, with its waveform, as librosa reads it."""
    import librosa

    found = []
    for path in sorted(library.rglob("*.*")):
        if path.suffix == ".txt":
            continue
        try:
            found.append((str(path), librosa.load(path, sr=RATE)[0]))
        except Exception:  # noqa: BLE001  a broken file stops the pipeline; the peer is given a try of its own
            continue
    return found


def pipeline(library: Path, genre: Path, tags: Path) -> dict[str, Any]:
    """Decode and score file by file."""
    from transformers import pipeline as make

    heads = {head: make("audio-classification", model=str(path)) for head, path in (("genre", genre), ("tags", tags))}
    functions = {"genre": "softmax", "tags": "sigmoid"}
    started, audio_s = time.perf_counter(), 0.0
    results: dict[str, dict[str, dict[str, float]]] = {}
    import librosa

    for path in sorted(library.rglob("*.*")):
        if path.suffix == ".txt":
            continue
        try:
            waveform, _ = librosa.load(path, sr=RATE)
        except Exception:  # noqa: BLE001  a broken file stops the pipeline; the peer is given a try of its own
            continue
        audio_s += len(waveform) / RATE
        results[str(path)] = {}
        for head, pipe in heads.items():
            sums: dict[str, float] = {}
            windows = windows_of(waveform, head)
            for window in windows:
                answer: Any = pipe(window, top_k=10_000, function_to_apply=functions[head])
                for entry in answer:
                    sums[entry["label"]] = sums.get(entry["label"], 0.0) + entry["score"] / len(windows)
            results[str(path)][head] = sums
    return {"wall_s": time.perf_counter() - started, "audio_s": audio_s, "results": results}


def forward(library: Path, genre: Path, tags: Path) -> dict[str, Any]:
    """Score windows that are in memory already."""
    from tonearm.models.classifier import Classifier

    heads = {"genre": Classifier.load(str(genre)), "tags": Classifier.load(str(tags))}
    tracks = decoded(library)
    for head, classifier in heads.items():
        classifier.score(windows_of(tracks[0][1], head)[:1])
    started = time.perf_counter()
    for _, waveform in tracks:
        for head, classifier in heads.items():
            classifier.score(windows_of(waveform, head))
    wall_s = time.perf_counter() - started
    return {"wall_s": wall_s, "audio_s": sum(len(waveform) for _, waveform in tracks) / RATE}


def main(arguments: Sequence[str]) -> None:
    """Run one peer and print what it took."""
    kind, *paths = arguments
    from tonearm.distributed.stages import peak_memory_bytes

    run = {"pipeline": pipeline, "forward": forward}[kind]
    facts = run(*map(Path, paths))
    print(json.dumps({**facts, "peak_bytes": peak_memory_bytes()}))


if __name__ == "__main__":
    main(sys.argv[1:])
