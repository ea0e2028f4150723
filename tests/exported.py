"""Rows to export, and what the written files hold."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from tests.tables import make_row

BOOKKEEPING = ("term", "read_settings", "genre_settings", "tag_settings")


def tag(label: str, score: float) -> dict[str, Any]:
    """Return a tag as a row has it."""
    return {"label": label, "score": score, "max_score": score, "max_start_s": 0.0}


def window(start_s: float, end_s: float, genre: str | None, **tags: float) -> dict[str, Any]:
    """Return one window of a row's timeline."""
    scored = [{"label": label, "score": score} for label, score in tags.items()]
    return {"start_s": start_s, "end_s": end_s, "genre": genre, "genre_score": 0.9, "tags": scored}


def row(number: int, **changes: Any) -> dict[str, Any]:
    """Return a row that is the same for the same number, with some of its columns replaced."""
    return make_row(number, np.random.default_rng(number), **changes)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def playlist(path: Path) -> list[tuple[str, str]]:
    """Return the entries of a playlist, each its ``#EXTINF`` line and its address; check the form of the rest."""
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[0] == "#EXTM3U" and lines[1].startswith("#PLAYLIST:") and lines[-1] == ""
    assert len(lines) % 2 == 1
    return list(zip(lines[2:-1:2], lines[3:-1:2], strict=True))
