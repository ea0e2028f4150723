"""AST's features on one core against ``ASTFeatureExtractor``: python -m bench.features prints JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.figures import Figure, Section, in_turns

WINDOW_S, RATE = 10.24, 16000
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Case:
    """There is one."""


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured."""
    yield Case()


def measure(case: Case, folder: Path) -> Section:
    """Time both in turns, in a process that may use one core."""
    made = subprocess.run([sys.executable, "-m", "bench.features"], check=True, capture_output=True, text=True)
    found = json.loads(made.stdout.splitlines()[-1])
    rates = {
        "tonearm": WINDOW_S / statistics.median(own for own, _ in found["times"]),
        "ASTFeatureExtractor": WINDOW_S / statistics.median(peer for _, peer in found["times"]),
    }
    lines = ["## AST's features of 10.24 s, one core", "", "| | × real time |", "|---|---:|"]
    lines += [f"| {name} | {rate:,.0f} |" for name, rate in rates.items()]
    lines += ["", f"Largest difference: {found['difference']:.1e}."]
    ratios = tuple(peer / own for own, peer in found["times"])
    figure = Figure("AST features per core against ASTFeatureExtractor", ratios, 3.0)
    return Section("\n".join(lines), found["difference"] < TOLERANCE, (figure,))


def main() -> None:
    """Measure on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import torch
    from transformers import ASTFeatureExtractor

    from tonearm.models.features import build_features

    torch.set_num_threads(1)
    extractor = ASTFeatureExtractor()
    ours = build_features(extractor)
    rng = np.random.default_rng(0)
    window = (rng.standard_normal(round(WINDOW_S * RATE)) * 0.1).astype(np.float32)

    def own() -> torch.Tensor:
        with torch.inference_mode():
            return ours(torch.from_numpy(window)[None])["input_values"]

    def peer() -> torch.Tensor:
        return extractor(window, sampling_rate=RATE, return_tensors="pt")["input_values"]

    difference = float((own() - peer()).abs().max())
    print(json.dumps({"difference": difference, "times": in_turns(own, peer, repeats=25)}))


if __name__ == "__main__":
    main()
