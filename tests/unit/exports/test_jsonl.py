"""JSON lines hold whole rows, with nulls and empty lists apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.exported import BOOKKEEPING, row, tag
from tests.tables import make_tracks, write_tracks
from tonearm.exports.export import export


@pytest.mark.parametrize("include", [False, True])
def test_jsonl_has_whole_rows(tmp_path: Path, include: bool) -> None:
    make_tracks(tmp_path, 400, error_share=0.2)
    export(str(tmp_path), "jsonl", str(tmp_path / "t.jsonl"), include_embeddings=include)
    lines = (tmp_path / "t.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    for line, want in zip(lines, pq.read_table(tmp_path / "tracks").to_pylist(), strict=True):
        got = json.loads(line)
        want["modified"] = want["modified"].isoformat()
        want["track_key"] = str(want["track_key"])
        for name in BOOKKEEPING:
            del want[name]
        if not include:
            del want["genre_embedding"], want["tag_embedding"]
        assert list(got) == list(want)
        assert_close(got, want)
    assert "坂本 ゆき" in "".join(lines)


def assert_close(got: Any, want: Any) -> None:
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        for name in want:
            assert_close(got[name], want[name])
    elif isinstance(want, list):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert_close(one, other)
    elif isinstance(want, float):
        assert got == pytest.approx(want, abs=1e-7)
    else:
        assert got == want


def test_jsonl_keeps_nulls_and_empty_lists_apart_in_any_batch(tmp_path: Path) -> None:
    rows = [row(n, tags=None if n % 3 == 0 else [] if n % 3 == 1 else [tag("x", 0.25)]) for n in range(300)]
    write_tracks(tmp_path, rows)
    export(str(tmp_path), "jsonl", str(tmp_path / "t.jsonl"))
    tags = [json.loads(line)["tags"] for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert tags == [None if n % 3 == 0 else [] if n % 3 == 1 else [tag("x", 0.25)] for n in range(300)]
