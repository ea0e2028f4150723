"""A destination gets further heads and keeps those that it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.simulation.runs import OTHERS
from tests.stub_runs import StubRuns
from tonearm import heads
from tonearm.errors import DestinationError, ScoreError, Stopped, UsageError
from tonearm.exports.export import export
from tonearm.heads import head_of
from tonearm.report.figures import gather
from tonearm.runs import compaction, groups, resume
from tonearm.runs.destination import Destination
from tonearm.runs.rows import track_rows
from tonearm.runs.status import read_status

ALL = ["a.mp3", "b.mp3", "c.mp3"]


EVERY = ("genre", "tags", *OTHERS)


# What differs between two runs by their nature; the hash is of a group's facts, which are alike.
VOLATILE = ("run_id", "term", "modified")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubRuns:
    return StubRuns(tmp_path, monkeypatch)


def said(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {key: row[key] for key in row if key not in VOLATILE} for name, row in rows.items()}


def from_nothing(runs: StubRuns, *names: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a destination that was tagged once, with these heads."""
    before, runs.out = runs.out, runs.out.with_name("fresh")
    runs.tag(*names)
    rows, runs.out = said(runs.rows()), before
    return rows


@pytest.mark.parametrize("name", OTHERS)
def test_a_finished_destination_gets_a_head_and_scores_it_alone(runs: StubRuns, name: str) -> None:
    runs.tag("genre", "tags")
    before = runs.rows()
    outcome = runs.tag("genre", "tags", name)
    assert runs.scored == {(name,): ALL}
    rows, head = runs.rows(), head_of(name, OTHERS[name])
    assert said(rows) == from_nothing(runs, "genre", "tags", name)
    added = {*head.columns, head.settings}
    for track, row in rows.items():
        kept = {key: row[key] for key in before[track] if key not in (*VOLATILE, "coverage", "silent")}
        assert kept == {key: before[track][key] for key in kept}
        assert {*row} - {*before[track]} == added
        assert all(row[column] is not None for column in added)
    assert outcome.audit.num_incomplete == 0
    runs.tag("genre", "tags", name)
    assert runs.scored == {}


def test_heads_that_a_run_does_not_name_stay(runs: StubRuns) -> None:
    """With new tracks, which get only what the run has; the other heads are missing there, and can be added."""
    runs.tag(*EVERY)
    before = runs.rows()
    (runs.music / "d.mp3").write_bytes(b"d")
    runs.tag("genre")
    assert runs.scored == {("genre",): ["d.mp3"]}
    rows = runs.rows()
    assert {name: rows[name] for name in ALL} == before
    assert rows["d.mp3"].get("mood") is None
    status = read_status(str(runs.out))
    assert status.missing_by_group == dict.fromkeys(("tags", *OTHERS), 1)
    runs.tag(*EVERY)
    assert {name for names in runs.scored.values() for name in names} == {"d.mp3"}
    assert said(runs.rows()) == from_nothing(runs, *EVERY)


def test_one_head_after_the_other_interrupted_is_all_at_once(runs: StubRuns) -> None:
    runs.tag("genre", "tags")
    names = list(OTHERS)
    for number in range(len(names)):
        runs.stop = 1, Stopped("by a signal")
        wanted = ("genre", "tags", *names[: number + 1])
        with pytest.raises(Stopped):
            runs.tag(*wanted)
        runs.tag(*wanted)
    assert said(runs.rows()) == from_nothing(runs, *EVERY)


def test_rescore_makes_one_head_again(runs: StubRuns) -> None:
    runs.tag("genre", "tags", "mood")
    before = runs.rows()
    with pytest.raises(DestinationError, match=r"max_windows.*--rescore mood"):
        runs.tag("mood", max_windows=1)
    runs.tag("mood", rescore=["mood"], max_windows=1)
    assert runs.scored == {("mood",): ALL}
    for track, row in runs.rows().items():
        assert row["mood"] != before[track]["mood"]
        assert (row["genre"], row["genre_settings"]) == (before[track]["genre"], before[track]["genre_settings"])


def test_a_head_keeps_its_kind(runs: StubRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.tag("mood")
    monkeypatch.setitem(OTHERS, "mood", "multi")
    for rescore in ([], ["mood"]):
        with pytest.raises(UsageError, match="holds mood as single, and this run has it as multi"):
            runs.tag("mood", rescore=rescore)


def test_a_column_of_somebody_else_is_not_taken(runs: StubRuns) -> None:
    runs.tag("genre")
    for path in (runs.out / "tracks").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.append_column("mood_score", pa.array(["mine"] * len(table))), path)
    before = runs.rows()
    with pytest.raises(UsageError, match="has a column mood_score already"):
        runs.tag("genre", "mood")
    assert runs.rows() == before


def test_facts_that_somebody_deleted_are_known_by_the_rows(runs: StubRuns) -> None:
    runs.tag(*EVERY)
    before = said(runs.rows())
    for path in (runs.out / "_checkpoint").glob("*.json"):
        path.unlink()
    runs.tag(*EVERY)
    assert runs.scored == {}
    assert said(runs.rows()) == before


def test_a_track_that_fails_for_a_head_keeps_the_others(runs: StubRuns) -> None:
    runs.tag("genre", "mood")
    before = runs.rows()["a.mp3"]
    runs.failures = {"a.mp3": ScoreError("no number", code="score_failed")}
    runs.tag("genre", "mood", "instruments")
    row = runs.rows()["a.mp3"]
    assert (row["mood"], row["mood_settings"], row["status"]) == (before["mood"], before["mood_settings"], "ok")
    assert (row["instruments_settings"], row["error_code"]) == (None, "score_failed")
    runs.failures = {}
    runs.tag("genre", "mood", "instruments", retry_errors=True)
    assert said(runs.rows()) == from_nothing(runs, "genre", "mood", "instruments")


def test_readers_find_the_columns_in_files_of_before_and_after(runs: StubRuns, tmp_path: Path) -> None:
    runs.tag("genre")
    runs.stop = 2, Stopped("by a signal")
    with pytest.raises(Stopped):
        runs.tag("genre", "mood", "instruments", "vectors")
    out = str(runs.out)
    rows = track_rows.listed_rows(out)
    assert {head.name: head.activation for head in rows.heads} == OTHERS
    found = [row for batch in track_rows.scan(out, ["uri", "mood", "vectors_embedding"]) for row in batch.to_pylist()]
    assert sorted(row["mood"] is not None for row in found) == [False, True, True]

    runs.tag("genre", "mood", "instruments", "vectors")
    compaction.compact(Destination.of(out))
    (path,) = (runs.out / "tracks").iterdir()
    assert heads.heads_among(pq.read_schema(path).names) == tuple(head_of(*item) for item in OTHERS.items())

    labels = {row["mood"] for row in runs.rows().values()}
    figures = gather(out)
    assert {*figures.heads["mood"]} == labels and len(figures.heads["instruments"]) == 3
    assert {*figures.found().heads["mood"]} == labels
    export(out, "csv", str(tmp_path / "t.csv"))
    first, *lines = (tmp_path / "t.csv").read_text().splitlines()
    assert first.endswith("top_tags,mood,mood_score,mood_model,instruments_tags,instruments_model,vectors_model")
    assert len(lines) == 3 and all(any(label in line for label in labels) for line in lines)
    export(out, "jsonl", str(tmp_path / "t.jsonl"), include_embeddings=True)
    objects = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert {each["mood"] for each in objects} == labels
    assert all(each["instruments_tags"] and each["mood_windows"] and each["vectors_embedding"] for each in objects)
    assert export(out, "m3u", str(tmp_path / "lists"), by="mood").num_files == len(labels)
    with pytest.raises(UsageError, match="expected 'genre' or 'tag' or 'mood' or 'instruments'"):
        export(out, "m3u", str(tmp_path / "no"), by="vectors")
    export(out, "audacity", str(tmp_path / "labels"))
    assert all("\tmood: mood|" in path.read_text() for path in (tmp_path / "labels").iterdir())
    export(out, "embeddings", str(tmp_path / "e.parquet"))
    assert "vectors_embedding" in pq.read_schema(tmp_path / "e.parquet").names


def test_a_plan_is_of_the_heads_that_are_missing(runs: StubRuns) -> None:
    runs.tag("genre", "tags")
    place, named = Destination.of(str(runs.out)), ("genre", "tags", "mood")
    found = resume.read_rows(place, groups.read(place), [head_of("mood", "single")])
    keys = np.array([row["track_key"] for row in runs.rows().values()])
    assert found.heads_to_score(keys, named) == ["mood"]
    assert found.heads_to_score(np.append(keys, -7), named) == list(named), "a new track wants all of them"


def test_a_destination_of_0_1_0_gets_a_head(runs: StubRuns) -> None:
    """Whose rows do not say by which settings they have what they have."""
    runs.tag("genre", "tags")
    runs.forget_settings()
    before = runs.rows()
    runs.tag("genre", "tags", "mood")
    assert runs.scored == {("mood",): ALL}
    assert all(row["genre"] == before[name]["genre"] and row["mood"] for name, row in runs.rows().items())


def test_a_silent_track_is_named_by_no_head(runs: StubRuns, tmp_path: Path) -> None:
    runs.tag("genre", "mood")
    for path in (runs.out / "tracks").iterdir():
        table = pq.read_table(path)
        place = table.schema.get_field_index("silent")
        pq.write_table(table.set_column(place, "silent", pa.array([True] * len(table))), path)
    export(str(runs.out), "jsonl", str(tmp_path / "t.jsonl"))
    objects = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [(each["genre"], each["mood"]) for each in objects] == [(None, None)] * 3
    assert gather(str(runs.out)).heads == {"mood": {}}
