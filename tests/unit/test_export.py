"""Exports, read back by the parsers of their formats and compared with the table."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables import damage, make_error, make_row, make_tracks, write_listing, write_tracks
from tonearm.cli.app import app
from tonearm.errors import DestinationError, UsageError
from tonearm.exports import m3u
from tonearm.exports.audacity import Label, track_labels
from tonearm.exports.export import export
from tonearm.runs.rows import track_rows
from tonearm.runs.rows.schema import TRACKS
from tonearm.sources.tables import list_table
from tonearm.sources.track_ref import make_ref

BOOKKEEPING = ("term", "read_settings", "genre_settings", "tag_settings")
NESTED = ("genre_scores", "tags", "windows", "genre_embedding", "tag_embedding")


def window(start_s: float, end_s: float, genre: str | None, **tags: float) -> dict[str, Any]:
    scored = [{"label": label, "score": score} for label, score in tags.items()]
    return {"start_s": start_s, "end_s": end_s, "genre": genre, "genre_score": 0.9, "tags": scored}


def row(number: int, **changes: Any) -> dict[str, Any]:
    return make_row(number, np.random.default_rng(number), **changes)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_every_track_with_its_scalars_and_best_tags(tmp_path: Path) -> None:
    make_tracks(tmp_path, 1500, error_share=0.1)
    counts = export(str(tmp_path), "csv", str(tmp_path / "out" / "t.csv"))
    assert (counts.num_tracks, counts.num_files) == (1500, 1)
    expected = pq.read_table(tmp_path / "tracks").to_pylist()
    written = read_csv(tmp_path / "out" / "t.csv")
    assert list(written[0]) == [n for n in TRACKS.names if n not in NESTED + BOOKKEEPING] + ["top_tags"]
    for cells, want in zip(written, expected, strict=True):
        assert int(cells["track_key"]) == want["track_key"]
        assert cells["uri"] == want["uri"] and cells["status"] == want["status"]
        assert cells["title"] == (want["title"] or "")
        assert cells["modified"] == want["modified"].isoformat()
        if want["status"] == "ok":
            assert float(cells["duration_s"]) == want["duration_s"]
            assert np.float32(cells["genre_score"]) == np.float32(want["genre_score"]), "every digit of it"
            best = cells["top_tags"].split("; ")
            assert [part.rpartition(":")[0] for part in best] == [tag["label"] for tag in want["tags"]]
            assert float(best[0].rpartition(":")[2]) == pytest.approx(want["tags"][0]["score"], rel=1e-3)
        else:
            assert cells["error_code"] == want["error_code"] and cells["top_tags"] == cells["genre"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_cells_are_never_formulas(tmp_path: Path, start: str) -> None:
    hostile = f'{start}HYPERLINK("x"),\n"quoted"'
    write_tracks(tmp_path, [row(1, title=hostile, artist="R.E.M. = one")])
    export(str(tmp_path), "csv", str(tmp_path / "t.csv"))
    (cells,) = read_csv(tmp_path / "t.csv")
    assert cells["title"] == f"'{hostile}"
    assert cells["artist"] == "R.E.M. = one"


def test_negative_numbers_stay_numbers(tmp_path: Path) -> None:
    write_tracks(tmp_path, [row(1, track_key=-5)])
    export(str(tmp_path), "csv", str(tmp_path / "t.csv"))
    assert read_csv(tmp_path / "t.csv")[0]["track_key"] == "-5"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_key_survives_what_reads_numbers_as_doubles(tmp_path: Path, kind: str) -> None:
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


def tag(label: str, score: float) -> dict[str, Any]:
    return {"label": label, "score": score, "max_score": score, "max_start_s": 0.0}


def test_labels_merge_neighbours_and_leave_gaps() -> None:
    windows = [
        window(30, 60, "jazz", Piano=0.4),
        window(0, 30, "jazz", Piano=0.9, Speech=0.6),
        window(60, 90, "rock", Piano=0.7),
        window(200, 230, "rock", Piano=0.8),
    ]
    assert track_labels(windows, 0.5) == [
        Label(0, 60, "jazz"),
        Label(0, 30, "Piano"),
        Label(0, 30, "Speech"),
        Label(60, 90, "rock"),
        Label(60, 90, "Piano"),
        Label(200, 230, "rock"),
        Label(200, 230, "Piano"),
    ]
    assert Label(0, 90, "Piano") in track_labels(windows, 0.4)


def test_labels_of_genres_never_overlap() -> None:
    shifted_back = [window(0, 30, "jazz"), window(30, 60, "jazz"), window(42.5, 72.5, "rock")]
    assert track_labels(shifted_back, 0.5) == [Label(0, 60, "jazz"), Label(60, 72.5, "rock")]


def test_audacity_files_hold_the_timeline_and_collide_never(tmp_path: Path) -> None:
    rows = [
        row(1, uri="/a/Blue.mp3", windows=[window(0, 10.24, "jazz", Piano=0.9), window(10.24, 12, "jazz")]),
        row(2, uri="/b/blue.flac", windows=[window(0, 9, "odd\tname\nhere")]),
        row(3, uri='s3://x/What? "Yes".ogg', windows=[window(0, 9, None, Choir=0.75)]),
        row(4, uri="/c/silent.wav", windows=[window(0, 9, None, Choir=0.1)]),
        make_error(5, np.random.default_rng(5)),
    ]
    write_tracks(tmp_path, rows)
    counts = export(str(tmp_path), "audacity", str(tmp_path / "labels"))
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "labels").iterdir()}
    assert counts.num_tracks == len(files) == 3
    assert sorted(name.split(" [")[0].casefold() for name in files) == ["blue", "blue", "what_ _yes_.txt"]
    assert len({name.casefold() for name in files}) == 3
    (blue,) = (text for name, text in files.items() if name.startswith("Blue"))
    assert blue == "0.000000\t12.000000\tjazz\n0.000000\t10.240000\tPiano\n"
    for text in files.values():
        for line in text.splitlines():
            start_s, end_s, label = line.split("\t")
            assert 0 <= float(start_s) < float(end_s) and label


def playlist(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[0] == "#EXTM3U" and lines[1].startswith("#PLAYLIST:") and lines[-1] == ""
    assert len(lines) % 2 == 1
    return list(zip(lines[2:-1:2], lines[3:-1:2], strict=True))


def test_playlists_by_genre_hold_every_ok_track_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m3u, "RUN_ENTRIES", 37)  # so that runs are merged
    make_tracks(tmp_path, 600, error_share=0.1)
    counts = export(str(tmp_path), "m3u", str(tmp_path / "lists"))
    rows = [entry for entry in pq.read_table(tmp_path / "tracks").to_pylist() if entry["status"] == "ok"]
    assert counts.num_tracks == len(rows)
    for genre in {entry["genre"] for entry in rows}:
        entries = playlist(tmp_path / "lists" / f"{genre}.m3u8")
        assert [uri for _, uri in entries] == sorted(entry["uri"] for entry in rows if entry["genre"] == genre)
        assert all(extinf.startswith("#EXTINF:") for extinf, _ in entries)


def test_playlists_by_tag_take_the_tags_from_the_score_on(tmp_path: Path) -> None:
    rows = [
        row(
            1, uri="/a.mp3", duration_s=61.6, artist="Vale", title="Blue", tags=[tag("Rock/Pop", 0.9), tag("Low", 0.2)]
        ),
        row(2, uri="/b.mp3", duration_s=None, artist=None, title=None, tags=[tag("rock:pop", 0.5)]),
        row(3, uri="/c\nd.mp3", artist="New\nline", title="T", tags=[tag("Low", 0.2)]),
    ]
    write_tracks(tmp_path, rows)
    assert export(str(tmp_path), "m3u", str(tmp_path / "a"), by="tag").num_tracks == 2
    assert playlist(tmp_path / "a" / "Rock_Pop.m3u8") == [("#EXTINF:62,Vale - Blue", "/a.mp3")]
    assert playlist(tmp_path / "a" / "rock_pop (2).m3u8") == [("#EXTINF:-1,b", "/b.mp3")]
    export(str(tmp_path), "m3u", str(tmp_path / "b"), by="tag", min_score=0.1)
    assert [uri for _, uri in playlist(tmp_path / "b" / "Low.m3u8")] == ["/a.mp3", "file:///c%0Ad.mp3"]


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


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_taken_output_is_kept_unless_overwritten(tmp_path: Path) -> None:
    make_tracks(tmp_path, 5)
    (tmp_path / "t.csv").write_text("mine")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "mine.txt").write_text("mine")
    for kind, output in (("csv", "t.csv"), ("m3u", "lists")):
        with pytest.raises(DestinationError, match=r"exists already and is not empty.*--overwrite"):
            export(str(tmp_path), kind, str(tmp_path / output))
    assert (tmp_path / "t.csv").read_text() == "mine"
    export(str(tmp_path), "csv", str(tmp_path / "t.csv"), overwrite=True)
    assert len(read_csv(tmp_path / "t.csv")) == 5
    export(str(tmp_path), "m3u", str(tmp_path / "lists"), overwrite=True)
    assert (tmp_path / "lists" / "mine.txt").read_text() == "mine"
    for kind, output in (("csv", "lists"), ("m3u", "t.csv")):
        with pytest.raises(DestinationError, match=r"expected the name of a (file|folder)"):
            export(str(tmp_path), kind, str(tmp_path / output), overwrite=True)


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    make_tracks(tmp_path, 3000)
    write_tracks(tmp_path, [row(1)], name="zz.parquet")
    damage(tmp_path / "tracks" / "zz.parquet", "status")
    with pytest.raises(DestinationError, match="zz"):
        export(str(tmp_path), "csv", str(tmp_path / "out" / "t.csv"), all_versions=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_wrong_arguments_say_what_is_known(tmp_path: Path) -> None:
    make_tracks(tmp_path, 2)
    with pytest.raises(UsageError, match=r"'jsn'.*did you mean 'jsonl'\? expected one of csv, jsonl, audacity, m3u"):
        export(str(tmp_path), "jsn", str(tmp_path / "x"))
    with pytest.raises(UsageError, match="between 0 and 1"):
        export(str(tmp_path), "csv", str(tmp_path / "x"), min_score=50)
    with pytest.raises(UsageError, match="'genre' or 'tag'"):
        export(str(tmp_path), "m3u", str(tmp_path / "x"), by="artist")  # type: ignore[arg-type]
