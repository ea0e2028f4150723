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

from tests.tables import write_tracks
from tests.unit.runs.group_rows import BOTH, GENRE, GROUPS, TAGS, failed, ok
from tonearm.errors import DestinationError
from tonearm.runs import resume
from tonearm.runs.destination import Destination
from tonearm.runs.groups import Group
from tonearm.runs.resume import Audit
from tonearm.runs.todo import TodoPart


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
    found = resume.read_rows(place, groups)
    keys: dict[tuple[str, ...], list[int]] = {}
    for each in found.rewrites(np.sort(np.array(listed)), heads, retry_errors=retry_errors):
        for file, rows in each.rows.items():
            table = pq.read_table(file.path, partitioning=None, columns=["track_key"])
            keys.setdefault(each.heads, []).extend(table.filter(pa.array(rows))["track_key"].to_pylist())
        assert each.num_tracks == len(keys[each.heads])
    return keys


def audit(place: Destination, listed: Sequence[int], heads: Sequence[str] = BOTH) -> Audit:
    return resume.read_rows(place, GROUPS).audit(np.sort(np.array(listed, np.int64)), heads)


def test_an_empty_destination_has_no_rows_to_rewrite(place: Destination) -> None:
    found = resume.read_rows(place, {})
    assert len(found.keys) == 0
    assert found.rewrites(np.array([1, 2]), BOTH, retry_errors=True) == []
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
    assert resume.read_rows(place, GROUPS).complete(BOTH).tolist() == [1, 3, 4, 5, 7]


def test_a_head_that_could_not_be_added_is_tried_again_as_failed_tracks_are(place: Destination) -> None:
    """The rows are ok and say why they lack it: 2 could not be read then, 3 not decoded, 4 was never tried."""
    none: dict[str, Any] = {"tag_model": None, "tag_settings": None}
    rows = [ok(1), ok(2, error_code="fetch_failed", **none), ok(3, error_code="corrupt", **none), ok(4, **none)]
    write_tracks(place.url, rows)
    assert again(place, range(1, 5)) == {("tags",): [2, 4]}
    assert again(place, range(1, 5), retry_errors=True) == {("tags",): [2, 3, 4]}
    assert resume.read_rows(place, GROUPS).complete(BOTH).tolist() == [1, 3]
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
    found = resume.read_rows(place, GROUPS).outranked()
    assert {file.name: rows.tolist() for file, rows in found.items()} == {"a.parquet": [False, False]}


@pytest.mark.parametrize("names", [["track_key"], ["track_key", "uri"]])
def test_a_table_of_another_program_is_named(place: Destination, names: list[str]) -> None:
    write_tracks(place.url, [ok(1)], name="a.parquet")
    pq.write_table(pq.read_table(Path(place.tracks, "a.parquet"), columns=names), Path(place.tracks, "mine.parquet"))
    with pytest.raises(DestinationError, match=r"mine\.parquet cannot be read \(it has no column status\)"):
        resume.read_rows(place, GROUPS)


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
    found = resume.read_rows(place, {})
    for value, name in ((place, "url"), (found, "keys"), (audit(place, [1]), "num_ok"), (TodoPart("a", 1), "url")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)
