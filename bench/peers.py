"""The peers, each in a process of its own: python -m bench.peers KIND PRECISION GENRE TAGS FILE...; prints JSON.

pipeline    a loop over ``transformers.pipeline``: librosa decodes, every window of both heads is scored in batches,
            scores are averaged; what a person would write today, made to do the same work (in fp32, whatever PRECISION)
forward     the forward passes alone: the same windows, decoded before the clock starts, features and both models
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16000
# As many seconds as a forward pass of tonearm takes.
BATCH = 4
WINDOWS_S = {"genre": 30.0, "tags": 10.24}


def windows_of(waveform: np.ndarray, head: str) -> list[np.ndarray]:
    """Return the windows that tonearm would score."""
    from tonearm.audio.windows import WindowPlan

    samples = round(WINDOWS_S[head] * RATE)
    starts = WindowPlan(RATE, samples, samples, None, 400).starts(len(waveform))
    return [waveform[start : start + samples] for start in starts]


def decoded(files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield each file that decodes, with its waveform, as librosa reads it."""
    import librosa

    for path in files:
        try:
            waveform, _ = librosa.load(path, sr=RATE)
        except Exception:  # noqa: BLE001  a broken file stops the pipeline; the peer is given a try of its own
            continue
        yield path, waveform


def pipeline(files: Sequence[Path], genre: Path, tags: Path, precision: str) -> dict[str, Any]:
    """Decode and score file by file."""
    import warnings

    from transformers import pipeline as make
    from transformers.utils import logging

    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    heads = {head: make("audio-classification", model=str(path)) for head, path in (("genre", genre), ("tags", tags))}
    functions = {"genre": "softmax", "tags": "sigmoid"}
    heads["genre"](np.zeros(RATE, np.float32))  # imports what the first call imports
    started, audio_s = time.perf_counter(), 0.0
    results: dict[str, dict[str, dict[str, float]]] = {}
    for path, waveform in decoded(files):
        audio_s += len(waveform) / RATE
        results[str(path)] = {}
        for head, pipe in heads.items():
            sums: dict[str, float] = {}
            windows = windows_of(waveform, head)
            answers: Any = pipe(windows, top_k=10_000, function_to_apply=functions[head], batch_size=BATCH)
            for answer in answers:
                for entry in answer:
                    sums[entry["label"]] = sums.get(entry["label"], 0.0) + entry["score"] / len(windows)
            results[str(path)][head] = sums
    return {"wall_s": time.perf_counter() - started, "audio_s": audio_s, "results": results}


def forward(files: Sequence[Path], genre: Path, tags: Path, precision: str) -> dict[str, Any]:
    """Score windows that are in memory already, those of two files at a time as a run's blocks do."""
    from tonearm.models.classifier import Classifier

    heads = {
        "genre": Classifier.load(str(genre), precision=precision, is_bulk=True),
        "tags": Classifier.load(str(tags), precision=precision, is_bulk=True),
    }
    waveforms = [waveform for _, waveform in decoded(files)]
    for head, classifier in heads.items():
        classifier.score(windows_of(waveforms[0], head)[:1])
    started = time.perf_counter()
    for pair in (waveforms[first : first + 2] for first in range(0, len(waveforms), 2)):
        for head, classifier in heads.items():
            classifier.score([window for waveform in pair for window in windows_of(waveform, head)])
    wall_s = time.perf_counter() - started
    return {"wall_s": wall_s, "audio_s": sum(len(waveform) for waveform in waveforms) / RATE}


def run_peer(kind: str, genre: Path, tags: Path, files: Sequence[Path], precision: str = "fp32") -> dict[str, Any]:
    """Run a peer in a process of its own and return what it printed.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "bench.peers", kind, precision, str(genre), str(tags), *map(str, files)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"the peer {kind} failed:\n{made.stderr}")
    facts: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return facts


def main(arguments: Sequence[str]) -> None:
    """Run one peer and print what it took."""
    kind, precision, genre, tags, *files = arguments
    from tonearm.own_process import peak_memory_bytes

    run = {"pipeline": pipeline, "forward": forward}[kind]
    facts = run([Path(file) for file in files], Path(genre), Path(tags), precision)
    print(json.dumps({**facts, "peak_bytes": peak_memory_bytes()}))


if __name__ == "__main__":
    main(sys.argv[1:])
