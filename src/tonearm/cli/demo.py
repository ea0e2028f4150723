"""``tonearm demo``: a small library of synthesized songs, tagged with the built-in models, and shown as a table."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tonearm.cli.tag import tag
from tonearm.demo.library import write_library
from tonearm.runs.rows import track_rows
from tonearm.runs.rows.telling_tags import most_telling
from tonearm.storage.uris import visible
from tonearm.wording import clock, counted

NUM_TAGS = 3
LEAST_SCORE = 0.5
LABELS = "labels.txt"


def demo(library: Path, out: Path, *, workers: int | None = None, num_tracks: int = 24, seed: int = 0) -> int:
    """Write the library unless it is there, tag it, print the table; return the exit status."""
    if not (library / LABELS).is_file():
        print(f"writing {counted(num_tracks, 'synthesized song')} to {library}", file=sys.stderr)
        write_library(library, num_tracks=num_tracks, seed=seed)
    status = tag([str(library)], str(out), workers=workers, demo_models=True)
    _print_table(library, out)
    return status


def _print_table(library: Path, out: Path) -> None:
    with (library / LABELS).open(newline="") as file:
        truths = {os.path.abspath(library / row["path"]): row["genre"] for row in csv.DictReader(file)}
    columns = ["uri", "status", "error_code", "title", "artist", "codec", "sample_rate", "channels", "duration_s"]
    columns += ["genre", "genre_score", "tags"]
    rows = [row for batch in track_rows.scan(str(out), columns) for row in batch.to_pylist()]
    rows.sort(key=lambda row: (row["artist"] is None, row["artist"], row["title"]))
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("artist", "title", "audio", "length", "genre", "", "score", "tags"):
        shown.add_column(name, justify="right" if name in ("length", "score") else "left", no_wrap=name != "tags")
    for row in rows:
        shown.add_row(*_cells(row, truths.get(row["uri"])))
    # Where no terminal tells its width, as in a log, a table of 80 columns would be cut short.
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False, emoji=False)
    console.print(shown)
    labelled = [row for row in rows if row["status"] == "ok" and row["uri"] in truths]
    right = sum(row["genre"] == truths[row["uri"]] for row in labelled)
    console.print(
        f"{right} of {counted(len(labelled), 'genre', 'is', 'are')} what the synthesizer wrote ({library / LABELS})"
    )


def _cells(row: dict[str, Any], truth: str | None) -> list[str]:
    name = os.path.basename(row["uri"])
    if row["status"] != "ok":
        return ["", visible(name), "", "", row["error_code"], "", "", ""]
    audio = f"{row['codec']} {row['sample_rate'] / 1000:g} kHz {'mono' if row['channels'] == 1 else 'stereo'}"
    labels = [tag["label"] for tag in most_telling(row["tags"]) if tag["score"] >= LEAST_SCORE]
    tags = " · ".join(labels[:NUM_TAGS])
    mark = "" if truth is None else "✓" if truth == row["genre"] else f"({truth})"
    length = clock(row["duration_s"])
    cells = [row["artist"] or "", row["title"] or name, audio, length, row["genre"], mark]
    return [visible(cell) for cell in (*cells, f"{row['genre_score']:.2f}", tags)]
