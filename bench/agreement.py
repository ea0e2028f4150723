"""Whether int8 says what the pipeline says, on trained weights: the built-in models on a hundred synthesized songs.

What is to be quantized, the guard decides, as it does for everyone; a head that it refuses runs in bf16 or fp32.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from bench.figures import Figure, Section
from bench.peers import run_peer
from bench.runs import run_tag
from bench.tagging import same_top
from tonearm import demo
from tonearm.demo.library import write_library

NUM_SONGS = 100
HEADS = {"genre": "genre_model", "tags": "tag_model"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A library."""

    songs: Path


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured; nothing when it must be quick."""
    if quick:
        return
    songs = folder / "songs"
    write_library(songs, num_tracks=NUM_SONGS, seed=11, min_s=30, max_s=32)
    yield Case(songs)


def measure(case: Case, folder: Path) -> Section:
    """Tag the songs, ask the pipeline, compare the first labels."""
    out = folder / "agreement"
    shutil.rmtree(out, ignore_errors=True)
    run = run_tag(case.songs, out, "--demo-models", "--precision", "int8", is_quiet=True)
    rows = [row for row in pq.read_table(out / "tracks").to_pylist() if row["status"] == "ok"]
    files = [Path(row["uri"]) for row in rows]
    said = run_peer("pipeline", Path(demo.genre_model_path()), Path(demo.tag_model_path()), files)["results"]
    said = {Path(path).name: scores for path, scores in said.items()}
    lines = [
        f"## int8 on trained weights: the demo models, {len(rows)} songs",
        "",
        *(f"- {head}: ran in {run[name]['precision']}; {run[name]['note']}" for head, name in HEADS.items()),
    ]
    figures = tuple(
        Figure(
            f"tracks with the pipeline's first {head}, int8 asked for, trained models",
            (same_top(rows, said, head),),
            0.99,
            "%",
        )
        for head in HEADS
    )
    return Section("\n".join(lines), len(rows) == NUM_SONGS, figures)
