"""A whole run on the demo library, against the forward passes alone and a loop over ``transformers.pipeline``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.figures import Figure, Section
from bench.peers import run_peer
from bench.runs import run_tag
from tonearm import demo
from tonearm.demo.library import write_library

# Windows travel as int16, and a float32 forward pass depends a little on its batch.
TOLERANCE = 2e-3


@dataclasses.dataclass(frozen=True)
class Case:
    """One library and the two checkpoints that score it."""

    name: str
    library: Path
    genre: Path
    tags: Path


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured."""
    library = folder / "library"
    write_library(library)
    yield Case("demo library, demo models", library, Path(demo.genre_model_path()), Path(demo.tag_model_path()))


def measure(case: Case, folder: Path) -> Section:
    """Run tonearm and both peers one after the other."""
    out = folder / f"out-{case.library.name}"
    own, wall_s = _tonearm(case, out)
    files = [path for path in sorted(case.library.rglob("*.*")) if path.suffix != ".txt"]
    forward, pipeline = (run_peer(kind, case.genre, case.tags, files) for kind in ("forward", "pipeline"))
    difference, num_compared = _difference(out, pipeline["results"])
    speed = own["speed"]
    rate = {
        "tonearm tag, first byte to last row": speed["audio_s"] / speed["span_s"],
        "tonearm tag, the whole command": speed["audio_s"] / wall_s,
        "the forward passes alone": forward["audio_s"] / forward["wall_s"],
        "a loop over transformers.pipeline": pipeline["audio_s"] / pipeline["wall_s"],
    }
    peak = ", ".join(f"{name} {_mib(value)}" for name, value in sorted(speed["peak_bytes"].items()))
    memory = {
        "tonearm tag, first byte to last row": peak,
        "the forward passes alone": _mib(forward["peak_bytes"]),
        "a loop over transformers.pipeline": _mib(pipeline["peak_bytes"]),
    }
    best = rate["the forward passes alone"]
    lines = [
        f"## {case.name}",
        "",
        f"{speed['num_tracks']} tracks, {speed['audio_s'] / 60:.1f} min of audio; genre on "
        f"{_ran(own['genre_model'])}, tags on {_ran(own['tag_model'])}.",
        "",
        "| | hours of audio an hour | of the forward rate | peak memory |",
        "|---|---:|---:|---|",
        *(f"| {name} | {value:,.1f} | {value / best:.0%} | {memory.get(name, '')} |" for name, value in rate.items()),
        "",
        f"Largest difference of a score from the pipeline's: {difference:.1e}, over the {num_compared} tracks that are "
        "WAV or FLAC (decoders of lossy formats differ by more than models do). "
        f"Busy: {', '.join(f'{stage} {value:.1f} s' for stage, value in speed['busy_s'].items())} "
        f"in {speed['span_s']:.1f} s.",
    ]
    own_rate = rate["tonearm tag, first byte to last row"]
    figures = (
        Figure(f"{case.name}: first byte to last row, of the forward passes alone", (own_rate / best,), None, "%"),
        Figure(
            f"{case.name}: first byte to last row, against a loop over transformers.pipeline",
            (own_rate / rate["a loop over transformers.pipeline"],),
        ),
    )
    return Section("\n".join(lines), difference < TOLERANCE, figures)


def _tonearm(case: Case, out: Path) -> tuple[dict[str, Any], float]:
    models = ["--genre-model", str(case.genre), "--tag-model", str(case.tags)]
    started = time.perf_counter()
    run = run_tag(case.library, out, *models)
    return run, time.perf_counter() - started


def _difference(out: Path, results: dict[str, dict[str, dict[str, float]]]) -> tuple[float, int]:
    worst, num_compared = 0.0, 0
    columns = ["uri", "status", "genre_scores", "tags"]
    for row in pq.read_table(out / "tracks", columns=columns).to_pylist():
        if row["status"] != "ok" or not row["uri"].endswith((".wav", ".flac")):
            continue
        num_compared += 1
        for head, entries in (("genre", row["genre_scores"]), ("tags", row["tags"])):
            for entry in entries:
                worst = max(worst, abs(entry["score"] - results[row["uri"]][head][entry["label"]]))
    return worst, num_compared


def _ran(model: dict[str, Any]) -> str:
    return f"{model['runtime']} {model['precision']} ({model['device']})"


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"
