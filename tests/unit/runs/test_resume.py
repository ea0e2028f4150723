"""What a run finds at a destination, what is left to do, and whether every track has its row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tables import make_row, write_tracks
from tonearm.distributed.tagging.run import executions
from tonearm.errors import DestinationError, Stopped
from tonearm.runs import resume
from tonearm.runs.destination import Destination
from tonearm.runs.groups import Group
from tonearm.runs.manifest import manifest
from tonearm.runs.resume import Audit, TodoPart
from tonearm.runs.rows import schema
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems

GENRE, TAGS = Group({"model": "g"}), Group({"model": "t"})
GROUPS = {"genre": GENRE, "tags": TAGS}
BOTH = ("genre", "tags")
NOTHING = ("duration_s", "coverage", "genre", "genre_score", "tags", "windows")


def ok(key: int, **changes: object) -> dict[str, object]:
    has = {"genre_settings": GENRE.hash, "tag_settings": TAGS.hash, "term": 1}
    return make_row(key, np.random.default_rng(key), **{"track_key": key, "uri": f"/m/{key}.mp3", **has, **changes})


def failed(key: int, code: str | None, **changes: object) -> dict[str, object]:
    return ok(key, **dict.fromkeys(NOTHING), status="error", error_code=code, error_message=code, **changes)


def listed_parts(folder: Path, *parts: Sequence[tuple[int, str]]) -> list[str]:
    """Write manifest parts of (key, URI); return their paths."""
    (folder / "manifest").mkdir(parents=True, exist_ok=True)
    paths = []
    for number, part in enumerate(parts):
        paths.append(str(folder / "manifest" / f"part-{number}.parquet"))
        pq.write_table(manifest.to_table([TrackRef(key, uri, 1, None, None) for key, uri in part]), paths[-1])
    return paths


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination.of(str(tmp_path / "out"))


def again(
    place: Destination,
    listed: Sequence[int],
    groups: Mapping[str, Group] = GROUPS,
    heads: Sequence[str] = BOTH,
    *,
    retry_errors: bool = False,
) -> dict[tuple[str, ...], list[int]]:
    """Return the keys that are to be written anew, by heads."""
    found = resume.find(place, groups)
    keys: dict[tuple[str, ...], list[int]] = {}
    for each in found.again(np.sort(np.array(listed)), heads, retry_errors=retry_errors):
        for file, rows in each.rows.items():
            table = pq.read_table(file.path, partitioning=None, columns=["track_key"])
            keys.setdefault(each.heads, []).extend(table.filter(pa.array(rows))["track_key"].to_pylist())
        assert each.num_tracks == len(keys[each.heads])
    return keys


def audit(place: Destination, listed: Sequence[int], heads: Sequence[str] = BOTH) -> Audit:
    return resume.find(place, GROUPS).audit(np.sort(np.array(listed, np.int64)), heads)


def test_nothing_is_done_where_there_is_nothing(place: Destination) -> None:
    found = resume.find(place, {})
    assert len(found.keys) == 0
    assert found.again(np.array([1, 2]), BOTH, retry_errors=True) == []
    assert found.complete(BOTH).tolist() == []
    assert found.outranked() == {}
    assert (found.audit(np.array([1, 2]), BOTH).num_missing, found.audit(np.array([1, 2])).num_listed) == (2, 2)


def test_what_a_store_did_not_give_is_asked_for_again_and_the_rest_only_when_asked_to(place: Destination) -> None:
    write_tracks(place.url, [ok(1), failed(2, "fetch_failed"), failed(3, "corrupt")], name="a.parquet")
    write_tracks(place.url, [ok(4), ok(5)], name="b.parquet")
    write_tracks(place.url, [failed(6, "not_found"), failed(7, None), failed(8, "access_denied")], name="c.parquet")
    listed = range(1, 8)  # 8 is not listed any more
    assert again(place, listed) == {BOTH: [2, 6]}
    assert again(place, listed, retry_errors=True) == {BOTH: [2, 3, 6, 7]}
    assert resume.find(place, GROUPS).complete(BOTH).tolist() == [1, 3, 4, 5, 7]


def test_a_head_that_could_not_be_added_is_tried_again_as_failed_tracks_are(place: Destination) -> None:
    """The rows are ok and say why they lack it: 2 could not be read then, 3 not decoded, 4 was never tried."""
    none: dict[str, Any] = {"tag_model": None, "tag_settings": None}
    rows = [ok(1), ok(2, error_code="fetch_failed", **none), ok(3, error_code="corrupt", **none), ok(4, **none)]
    write_tracks(place.url, rows)
    assert again(place, range(1, 5)) == {("tags",): [2, 4]}
    assert again(place, range(1, 5), retry_errors=True) == {("tags",): [2, 3, 4]}
    assert resume.find(place, GROUPS).complete(BOTH).tolist() == [1, 3]
    found = audit(place, range(1, 5))
    assert (found.missing_by_group, found.failed_by_group) == ({"tags": 3}, {"tags": 1})


def test_a_row_that_lacks_a_head_gets_it_and_no_other(place: Destination) -> None:
    """Row 2 has no tags, 3 no genre, 4 tags by other settings, 5 could not be decoded; 6 failed to be read."""
    none: dict[str, Any] = {"tag_model": None, "tag_settings": None}
    no_genre: dict[str, Any] = {"genre_model": None, "genre_settings": None}
    write_tracks(place.url, [ok(1), ok(2, **none), ok(3, **no_genre), ok(4, tag_settings="others")], name="a.parquet")
    write_tracks(place.url, [failed(5, "corrupt", **none), failed(6, "not_found", **none)], name="b.parquet")
    # Other tags have other windows, on which the one timeline shows the genre too.
    assert again(place, range(1, 7)) == {("tags",): [2], ("genre",): [3], BOTH: [4, 6]}
    assert again(place, range(1, 7), heads=("genre",)) == {("genre",): [3, 6]}


def test_a_head_of_which_nothing_is_settled_is_missing_everywhere(place: Destination) -> None:
    write_tracks(place.url, [ok(1, tag_model=None, tag_settings=None), ok(2)])
    assert again(place, [1, 2], {"genre": GENRE}) == {("tags",): [1], BOTH: [2]}


def test_rows_that_do_not_say_have_what_their_destination_has(place: Destination) -> None:
    """As all rows of 0.1.0, whose files lack the columns."""
    silent = {"genre_settings": None, "tag_settings": None, "term": None}
    write_tracks(place.url, [ok(1, **silent), ok(2, **silent, tag_model=None)])
    adopting = {name: dataclasses.replace(group, adopts=True) for name, group in GROUPS.items()}
    assert again(place, [1, 2], adopting) == {("tags",): [2]}
    assert again(place, [1, 2]) == {BOTH: [1, 2]}


def test_facts_of_before_that_lacked_some_are_known(place: Destination) -> None:
    write_tracks(place.url, [ok(1, tag_settings="before")])
    known = {**GROUPS, "tags": dataclasses.replace(TAGS, known_as=("before",))}
    assert again(place, [1], known) == {}


def test_the_row_that_counts_decides(place: Destination) -> None:
    """Not an older one that is whole, nor an older one that failed."""
    write_tracks(place.url, [ok(1, term=1), failed(2, "not_found", term=1)], name="a.parquet")
    write_tracks(place.url, [ok(1, term=2, tag_settings=None, tag_model=None), ok(2, term=2)], name="b.parquet")
    assert again(place, [1, 2]) == {("tags",): [1]}
    found = resume.find(place, GROUPS).outranked()
    assert {file.name: rows.tolist() for file, rows in found.items()} == {"a.parquet": [False, False]}


@pytest.mark.parametrize("names", [["track_key"], ["track_key", "uri"]])
def test_a_table_of_another_program_is_named(place: Destination, names: list[str]) -> None:
    write_tracks(place.url, [ok(1)], name="a.parquet")
    pq.write_table(pq.read_table(Path(place.tracks, "a.parquet"), columns=names), Path(place.tracks, "mine.parquet"))
    with pytest.raises(DestinationError, match=r"mine\.parquet cannot be read \(it has no column status\)"):
        resume.find(place, GROUPS)


def test_the_todo_is_what_is_not_done_and_nothing_of_the_run_before(place: Destination) -> None:
    parts = listed_parts(Path(place.url), [(1, "/a"), (2, "/b"), (3, "/c")], [(4, "/d"), (5, "/e")], [(6, "/f")])
    fresh = resume.write_todo(place, parts, np.empty(0, np.int64))
    assert [(part.url, part.num_tracks) for part in fresh] == list(zip(parts, [3, 2, 1], strict=True))
    todo = resume.write_todo(place, parts, np.array([2, 4, 5, 9]))
    assert [part.num_tracks for part in todo] == [2, 1]
    assert [filesystems.read_table(part.url)["uri"].to_pylist() for part in todo] == [["/a", "/c"], ["/f"]]
    resume.write_todo(place, parts, np.array([1, 2, 3, 4, 5]))
    folder = Path(place.join("_checkpoint", "todo"))
    assert [path.name[:10] for path in folder.iterdir()] == ["part-00002"]
    assert resume.write_todo(place, parts, np.arange(1, 7)) == []


def test_what_a_displaced_run_still_writes_is_nobody_elses_todo(place: Destination) -> None:
    write_tracks(place.url, [ok(1, tag_settings=None, tag_model=None)])
    parts = listed_parts(Path(place.url), [(1, "/a"), (2, "/b")])
    lacking = resume.find(place, GROUPS).again(np.array([1]), BOTH, retry_errors=False)

    def todo() -> set[str]:
        return {
            part.url for part in resume.write_todo(place, parts, np.array([1])) + resume.write_again(place, lacking)
        }

    assert not todo() & todo()


def test_who_was_displaced_leaves_the_todo_of_its_successor(place: Destination) -> None:
    parts = listed_parts(Path(place.url), [(1, "/a"), (2, "/b")])
    (todo,) = resume.write_todo(place, parts, np.array([1]))

    def check() -> None:
        raise Stopped("another run has taken over")

    with pytest.raises(Stopped):
        resume.write_todo(place, parts, np.array([1]), check=check)
    assert Path(todo.url).exists()


def test_a_listing_that_is_gone_is_one_line(place: Destination) -> None:
    for done in (np.empty(0, np.int64), np.array([1])):
        with pytest.raises(DestinationError, match="cannot be read"):
            resume.write_todo(place, [place.join("manifest", "gone.parquet")], done)


def test_rows_are_carried_whole_with_the_columns_of_others(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "CARRIED_ROWS", 2)
    write_tracks(place.url, [ok(key, tag_settings=None, tag_model=None) for key in range(1, 4)], name="a.parquet")
    write_tracks(place.url, [ok(4, tag_settings=None, tag_model=None), ok(5)], name="b.parquet")
    path = Path(place.tracks, "b.parquet")
    pq.write_table(pq.read_table(path, partitioning=None).append_column("mine", [["x", "y"]]), path)
    found = resume.find(place, GROUPS).again(np.arange(1, 6), BOTH, retry_errors=False)
    parts = resume.write_again(place, found)
    assert [(part.num_tracks, part.heads, part.again) for part in parts] == [(2, ("tags",), 0)] * 2
    rows = pa.concat_tables([filesystems.read_table(part.url) for part in parts])
    assert rows.column_names == [*schema.MANIFEST.names, "old"]
    old = {row["track_key"]: row for row in rows["old"].to_pylist()}
    assert {key: row["mine"] for key, row in old.items()} == {1: None, 2: None, 3: None, 4: "x"}
    stands = {row["track_key"]: row for row in pq.read_table(place.tracks, partitioning=None).to_pylist()}
    assert all(old[key][name] == stands[key][name] for key in old for name in schema.TRACKS.names)
    assert rows["track_key"].to_pylist() == [1, 2, 3, 4]


def add_column(path: Path, values: Sequence[object], kind: pa.DataType) -> None:
    """Do what another program does: rewrite a file with a column more."""
    pq.write_table(pq.read_table(path, partitioning=None).append_column("mine", pa.array(values, kind)), path)


def test_columns_of_others_that_do_not_go_together_are_carried_apart(place: Destination) -> None:
    none: dict[str, Any] = {"tag_settings": None, "tag_model": None}
    for number, name in enumerate(["a", "b", "c", "d"]):
        write_tracks(place.url, [ok(2 * number, **none), ok(2 * number + 1, **none)], name=f"{name}.parquet")
    add_column(Path(place.tracks, "a.parquet"), ["x", "y"], pa.string())
    add_column(Path(place.tracks, "b.parquet"), [1, 2], pa.int64())
    add_column(Path(place.tracks, "d.parquet"), [1.5, 2.5], pa.float64())
    found = resume.find(place, GROUPS).again(np.arange(8), BOTH, retry_errors=False)
    parts = resume.write_again(place, found)
    carried = [[row["mine"] for row in filesystems.read_table(part.url)["old"].to_pylist()] for part in parts]
    assert carried == [["x", "y", None, None], [1.0, 2.0, 1.5, 2.5]]
    assert len(list(executions(parts, 100))) == 2, "an execution reads its parts as one table"


def test_the_audit_counts_each_track_once_by_the_row_that_counts(place: Destination) -> None:
    write_tracks(place.url, [ok(1, duration_s=10.0, coverage=0.5), failed(2, "corrupt")], name="a.parquet")
    write_tracks(place.url, [ok(1, duration_s=10.0, coverage=1.0, term=2), failed(4, "corrupt")], name="b.parquet")
    write_tracks(place.url, [failed(5, "too_short"), ok(9, duration_s=500.0)], name="c.parquet")  # 9 is not listed
    found = audit(place, [5, 1, 4, 2, 3])
    assert found == Audit(
        num_listed=5,
        num_ok=1,
        num_error=3,
        errors_by_code={"corrupt": 2, "too_short": 1},
        audio_s=10.0,
        scored_s=10.0,
        num_missing=1,
        num_outranked=1,
        num_files=3,
        num_unlisted=1,
    )
    assert list(found.errors_by_code) == ["corrupt", "too_short"], "the most frequent first"
    assert found.num_written == 4
    assert found.error_rate == pytest.approx(3 / 5)
    assert not found.is_exact
    assert audit(place, [1, 2, 4]).is_exact, "that a track has a further row is a matter of rank"
    nothing = audit(place, [])
    assert (nothing.num_listed, nothing.num_ok, nothing.error_rate, nothing.num_files) == (0, 0, 0.0, 3)


def test_failed_rows_without_a_code_are_counted_too(place: Destination) -> None:
    rows = [ok(1), failed(2, None), failed(3, None), failed(4, "corrupt"), failed(5, "unknown")]
    write_tracks(place.url, rows)
    found = audit(place, range(1, 6))
    assert found.errors_by_code == {"unknown": 3, "corrupt": 1}
    assert sum(found.errors_by_code.values()) == found.num_error == 4


def test_a_row_without_a_group_that_is_wanted_is_incomplete(place: Destination) -> None:
    write_tracks(place.url, [ok(1), ok(2, tag_settings=None), ok(3, tag_settings=None, genre_settings="x")])
    found = audit(place, [1, 2, 3])
    assert (found.missing_by_group, found.num_incomplete) == ({"genre": 1, "tags": 2}, 2)
    assert found.error_rate == pytest.approx(2 / 3)
    assert found.is_exact
    assert audit(place, [1, 2, 3], ["genre"]).missing_by_group == {"genre": 1}


def test_failures_alone_have_no_audio(place: Destination) -> None:
    write_tracks(place.url, [failed(1, "corrupt"), failed(2, "too_short")])
    found = audit(place, [1, 2])
    assert (found.num_ok, found.num_error, found.audio_s, found.scored_s) == (0, 2, 0.0, 0.0)
    assert found.error_rate == 1.0


def test_what_was_found_cannot_be_changed_by_who_reads_it(place: Destination) -> None:
    found = resume.find(place, {})
    for value, name in ((place, "url"), (found, "keys"), (audit(place, [1]), "num_ok"), (TodoPart("a", 1), "url")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)
