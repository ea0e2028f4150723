"""``tonearm.open`` and ``Library``: rows of what is listed, one for each track, and what a destination can be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import tonearm
from tests.tables import make_row, write_tracks
from tonearm.errors import DestinationError, UsageError
from tonearm.runs.manifest import manifest
from tonearm.runs.rows import schema
from tonearm.sources.listing import list_tracks


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Four tracks with a row, one of them with two and one no longer listed."""
    table, folder = tmp_path / "a.csv", tmp_path / "out"
    table.write_text("uri\n" + "".join(f"s3://records/{number}.mp3\n" for number in range(4)))
    rows = [
        make_row(
            number,
            np.random.default_rng(number),
            track_key=ref.track_key,
            uri=ref.uri,
            term=2,
            genre="jazz" if number % 2 else "rock",
            duration_s=60.0 * number,
        )
        for number, ref in enumerate(list_tracks([str(table)]))
    ]
    write_tracks(folder, rows)
    write_tracks(folder, [rows[1] | {"term": 1, "genre": "polka"}], name="part-1.parquet")
    manifest.write_manifest([str(table)], str(folder / "manifest"))
    table.write_text("uri\n" + "".join(f"s3://records/{number}.mp3\n" for number in range(3)))
    manifest.write_manifest([str(table)], str(folder / "manifest"))
    return folder


def test_one_row_for_each_listed_track_the_latest(out: Path) -> None:
    tracks = tonearm.open(out).tracks(columns=["uri", "genre"])
    assert len(tracks) == 3
    assert tracks.arrow().schema.names == ["uri", "genre"]
    assert {row["uri"][-5]: row["genre"] for row in tracks.arrow().to_pylist()} == {
        "0": "rock", "1": "jazz", "2": "rock",
    }  # fmt: skip
    assert len(tonearm.open(out).tracks(all_versions=True)) == 4
    assert tonearm.open(str(out)).tracks().arrow().schema.names == schema.TRACKS.names


@pytest.mark.processes
def test_where_chooses_and_counts(out: Path) -> None:
    library = tonearm.open(out)
    tracks = library.tracks(columns=["genre"], where="genre = 'rock' AND duration_s > 60")
    assert (len(tracks), tracks.arrow().to_pylist()) == (1, [{"genre": "rock"}])
    # The row that does not count is not asked.
    assert len(library.tracks(where="genre = 'polka'")) == 0
    assert library.tracks(columns=["uri"], where="false").arrow().num_rows == 0


def test_rows_are_had_in_each_form(out: Path) -> None:
    tracks = tonearm.open(out).tracks(columns=["uri", "duration_s"])
    frame = tracks.to_pandas()
    assert list(frame.columns) == ["uri", "duration_s"] and frame["duration_s"].sum() == 180
    assert [batch.num_rows for batch in tracks.batches(batch_rows=2)] == [2, 1]
    assert pa.table(tracks).equals(tracks.arrow())
    assert "3 tracks" in repr(tracks)


@pytest.mark.processes
def test_a_wrong_column_is_named_with_the_nearest(out: Path) -> None:
    with pytest.raises(UsageError, match="got column 'gener'; did you mean 'genre'"):
        tonearm.open(out).tracks(columns=["gener"])
    with pytest.raises(UsageError, match="expected a list of names"):
        tonearm.open(out).tracks(columns="genre")
    with pytest.raises(UsageError, match="one DuckDB expression"):
        tonearm.open(out).tracks(where="SELECT 1")


def test_an_empty_folder_is_not_a_library(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="holds no library"):
        tonearm.open(tmp_path)
    with pytest.raises(DestinationError, match="expected a folder"):
        tonearm.open("https://example.org/labels")


def test_an_export_without_a_place_or_of_no_kind_is_refused(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got an empty text for the output"):
        tonearm.open(out).export("")
    with pytest.raises(UsageError, match="got export kind 5; expected one of"):
        tonearm.open(out).export(tmp_path / "x.csv", format=5)  # type: ignore[arg-type]


@pytest.mark.processes
def test_what_the_verbs_do(out: Path, tmp_path: Path) -> None:
    library = tonearm.open(out)
    assert library.status().num_done == 3
    counts = library.export(tmp_path / "tracks.csv", where="genre = 'rock'")
    assert (counts.kind, counts.num_tracks, counts.num_unlisted) == ("csv", 2, 1)
    library.compact()
    assert len(library.tracks()) == 3
    assert repr(library) == f"Library({str(out)!r})"


def test_pruning_must_be_confirmed(out: Path) -> None:
    library = tonearm.open(out)
    assert list(library.listings().values()) == [(3, True)]
    with pytest.raises(UsageError, match="nothing was removed"):
        library.prune()
    asked: list[str] = []
    with pytest.raises(UsageError, match="nothing was removed"):
        library.prune(ask=lambda question: bool(asked.append(question)))
    assert asked == ["remove 2 rows that nothing shows?"]
    assert len(library.tracks(all_versions=True)) == 4
    pruned = library.prune(yes=True)
    assert (pruned.num_rows, pruned.num_forgotten) == (2, 0)
    assert len(library.tracks(all_versions=True)) == 3
