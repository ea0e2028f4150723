"""What holds for exports of every kind: which tracks they have, and what is said of those left out."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.exported import playlist, read_csv, row, window
from tests.tables import make_tracks, write_listing, write_tracks
from tonearm.cli.app import app
from tonearm.errors import UsageError
from tonearm.exports.export import export
from tonearm.runs.rows import track_rows
from tonearm.sources.tables import list_table
from tonearm.sources.track_ref import make_ref


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_keys_are_exact_for_readers_that_use_doubles(tmp_path: Path, kind: str) -> None:
    """As jq, JavaScript and spreadsheets do; int(float(2**53 + 1)) is another track's key."""
    keys = [2**53 + 1, 2**63 - 1, 5]
    write_tracks(tmp_path, [row(number, track_key=key) for number, key in enumerate(keys)])
    export(str(tmp_path), kind, str(tmp_path / "out"))
    if kind == "csv":
        assert [cells["track_key"] for cells in read_csv(tmp_path / "out")] == [str(key) for key in keys]
        return
    lines = (tmp_path / "out").read_text().splitlines()
    assert [json.loads(line, parse_int=float)["track_key"] for line in lines] == [str(key) for key in keys]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_was_exported_is_a_manifest_of_the_same_tracks(tmp_path: Path, kind: str) -> None:
    moment = datetime.datetime(2026, 1, 31, 12, 30, 15, 250_000, datetime.UTC)
    refs = [make_ref(f"s3://records/{name}.flac", 123_456_789_012, "0a1b", moment) for name in ("=one", "é ü", "three")]
    write_tracks(tmp_path, [row(number, **dataclasses.asdict(ref)) for number, ref in enumerate(refs)])
    export(str(tmp_path), kind, str(tmp_path / f"out.{kind}"))
    assert list(list_table(str(tmp_path / f"out.{kind}"))) == refs


@pytest.mark.parametrize("kind", ["csv", "jsonl", "audacity", "m3u", "embeddings"])
def test_each_kind_holds_the_listed_tracks_once_and_the_others_only_when_asked(tmp_path: Path, kind: str) -> None:
    """One track stands twice, one file was replaced by an older one, and one was deleted."""
    windows = [window(0, 9, "jazz")]
    doubled, replaced, there, deleted = (
        row(number, track_key=number, uri=f"/{name}.mp3", windows=windows, genre="jazz", term=1)
        for number, name in enumerate(("doubled", "replaced", "replaced", "deleted"), 1)
    )
    replaced["modified"], there["modified"] = sorted((replaced["modified"], there["modified"]), reverse=True)
    write_tracks(tmp_path, [doubled, replaced, deleted], name="a.parquet")
    write_tracks(tmp_path, [doubled | {"term": 2}, there], name="b.parquet")
    write_listing(tmp_path, [doubled, there])
    counts = export(str(tmp_path), kind, str(tmp_path / "out"))
    assert (counts.num_tracks, counts.num_unlisted) == (2, 2)
    every = export(str(tmp_path), kind, str(tmp_path / "every"), all_versions=True)
    assert (every.num_tracks, every.num_unlisted) == (4, 0)
    if kind == "csv":
        assert sorted(cells["track_key"] for cells in read_csv(tmp_path / "out")) == ["1", "3"]
    if kind == "m3u":
        assert [uri for _, uri in playlist(tmp_path / "out" / "jazz.m3u8")] == ["/doubled.mp3", "/replaced.mp3"]


def test_an_export_counts_the_rows_that_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(number, track_key=number) for number in range(3)]
    write_tracks(tmp_path, rows)
    write_listing(tmp_path, rows[:1])
    assert app(["export", str(tmp_path), str(tmp_path / "a.csv")], standalone_mode=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "left out: 2 tracks that are no longer listed; --all-versions takes them too"
    )
    assert app(["export", str(tmp_path), str(tmp_path / "b.csv"), "--all-versions"], standalone_mode=False) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'b.csv'}: 3 tracks in 1 file\n"


@pytest.mark.parametrize("kind", ["audacity", "embeddings"])
def test_both_passes_of_an_export_are_about_the_same_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Embeddings are projected by what was fitted on them, and names that are alike are told apart."""
    write_tracks(tmp_path, [row(1, track_key=1, uri="/a/x.mp3"), row(2, track_key=2, uri="/a/y.mp3")])
    real, calls = track_rows.scan, []

    def scan(*args: Any, **how: Any) -> Iterator[pa.RecordBatch]:
        calls.append(how["rows"])
        yield from real(*args, **how)
        write_tracks(tmp_path, [row(3, track_key=3, uri="/b/x.mp3")], name="b.parquet")

    monkeypatch.setattr(track_rows, "scan", scan)
    done = export(str(tmp_path), kind, str(tmp_path / "out"), dim=2 if kind == "embeddings" else None)
    assert len(calls) == 2 and calls[0] is calls[1]
    assert done.num_tracks == 2


def test_wrong_arguments_say_what_is_known(tmp_path: Path) -> None:
    make_tracks(tmp_path, 2)
    with pytest.raises(UsageError, match=r"'jsn'.*did you mean 'jsonl'\? expected one of csv, jsonl, audacity, m3u"):
        export(str(tmp_path), "jsn", str(tmp_path / "x"))
    with pytest.raises(UsageError, match="between 0 and 1"):
        export(str(tmp_path), "csv", str(tmp_path / "x"), min_score=50)
    with pytest.raises(UsageError, match="'genre' or 'tag'"):
        export(str(tmp_path), "m3u", str(tmp_path / "x"), by="artist")  # type: ignore[arg-type]
