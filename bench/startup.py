"""How long a person waits: ``tonearm --help``, and ``tonearm tag`` on one file with the demo models, Ray included."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from bench.clips import write_clips
from bench.figures import Figure, Section

HELPS, TAGS, QUICK_TAGS = 7, 5, 3


@dataclasses.dataclass(frozen=True)
class Case:
    """One file to tag, and how often."""

    clip: Path
    repeats: int


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured."""
    (clip,) = write_clips(folder / "startup", ["mp3"], seed=6)
    yield Case(clip, QUICK_TAGS if quick else TAGS)


def measure(case: Case, folder: Path) -> Section:
    """Run both commands."""
    helps = tuple(_timed(["--help"]) for _ in range(HELPS))
    out = folder / "startup-out"
    command = ["tag", str(case.clip), "--out", str(out), "--demo-models"]
    firsts, wholes, is_right = [], [], True
    _timed(command)  # the first run of all converts the models, once
    for _ in range(case.repeats):
        shutil.rmtree(out)
        began = time.time()
        wholes.append(_timed(command))
        (rows,) = (out / "tracks").glob("*.parquet")
        firsts.append(rows.stat().st_mtime - began)
        is_right &= pq.read_table(rows)["status"].to_pylist() == ["ok"]
    figures = (
        Figure("`tonearm --help`", helps, 0.3, "s", is_at_most=True),
        Figure("first row of `tonearm tag` on one file, demo models", tuple(firsts), 10.0, "s", is_at_most=True),
        Figure("that command as a whole", tuple(wholes), None, "s", is_at_most=True),
    )
    return Section("", is_right, figures)


def _timed(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tonearm", *arguments], check=True, capture_output=True)
    return time.perf_counter() - started
