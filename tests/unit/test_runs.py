"""What a run finds at a destination, what it does again, and whether every track has its row."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.tables import make_row, write_tracks
from tonearm.errors import DestinationError
from tonearm.library import manifest, runs, stores
from tonearm.library.runs import Audit, Destination
from tonearm.library.track_ref import TrackRef


def ok(key: int, **changes: object) -> dict[str, object]:
    return make_row(key, np.random.default_rng(key), **{"track_key": key, "uri": f"/m/{key}.mp3", **changes})


def failed(key: int, code: str, **changes: object) -> dict[str, object]:
    nothing = dict.fromkeys(("duration_s", "coverage", "genre", "genre_score", "tags", "windows"))
    return ok(key, **nothing, status="error", error_code=code, error_message=code, **changes)


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


def keys_of(place: Destination) -> list[int]:
    return runs.done_keys(place).tolist()


@pytest.mark.parametrize("url", ["s3://bucket/labels", "gs://bucket", "az://bucket/a/b", "memory://bucket/x"])
def test_a_store_is_a_destination(url: str) -> None:
    place = Destination.of(url)
    assert place.tracks == f"{url}/tracks"
    assert place.manifest == f"{url}/manifest"
    assert place.report == f"{url}/report.html"
    assert place.checkpoint("ab") == f"{url}/_checkpoint/ab"
    assert place.run("r") == f"{url}/runs/r.json"
    assert Destination(f"{url}/").join("a", "b") == f"{url}/a/b"


def test_a_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Destination.of("out").url == str(tmp_path / "out")
    assert Destination("/").join("tracks") == "/tracks"


@pytest.mark.parametrize(("url", "says"), [("https://h/x", "expected a folder, s3://"), ("s3://", "expected a bucket")])
def test_what_cannot_hold_rows_is_refused(url: str, says: str) -> None:
    with pytest.raises(DestinationError, match=says):
        Destination.of(url)


def test_the_fingerprint_is_of_the_facts_whatever_their_order() -> None:
    assert runs.fingerprint({"a": 1, "b": [2]}) == runs.fingerprint({"b": [2], "a": 1})
    assert runs.fingerprint({"a": 1}) != runs.fingerprint({"a": 2})
    assert len(runs.fingerprint({})) == 16
    assert int(runs.fingerprint({"path": Path("/x")}), 16) >= 0  # what JSON does not know is written as text


def test_other_settings_are_refused_only_where_there_are_rows(place: Destination) -> None:
    first = runs.claim(place, {"model": "small", "hop": 1, "same": True})
    written = json.loads(Path(place.join("_checkpoint", f"{first}.json")).read_text())
    assert written == {"model": "small", "hop": 1, "same": True}
    runs.claim(place, {"model": "large"})  # nothing was tagged with the first
    Path(place.checkpoint(first)).mkdir(parents=True)
    Path(place.checkpoint(first), "w_0.pending.parquet").touch()
    runs.claim(place, {"model": "large"})  # a file that was being written counts for nothing
    Path(place.checkpoint(first), "w_0.parquet").touch()
    assert runs.claim(place, {"model": "small", "hop": 1, "same": True}) == first
    with pytest.raises(DestinationError) as refusal:
        runs.claim(place, {"model": "large", "hop": 2, "same": True})
    assert "hop (there 1, now 2); model (there 'small', now 'large')" in refusal.value.message
    assert "same" not in refusal.value.message.partition(";")[0]
    assert "give the same settings to add to it, or another --out" in refusal.value.message


def test_a_file_that_is_no_table_is_named(place: Destination) -> None:
    write_tracks(place.url, [ok(1)])
    Path(place.tracks, "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DestinationError, match=r"bad\.parquet cannot be read .*tagged anew"):
        runs.done_keys(place)


def test_files_are_read_in_their_order_few_at_a_time(place: Destination) -> None:
    for number in range(7):
        write_tracks(place.url, [ok(10 - number)], name=f"{number}.parquet")
    pairs = list(runs.scan_tracks(place, ["track_key"], num_ahead=2))
    assert [file.name for file, _ in pairs] == [f"{number}.parquet" for number in range(7)]
    assert [table["track_key"].to_pylist() for _, table in pairs] == [[10 - number] for number in range(7)]
    some = [file for file, _ in pairs][2:4]
    assert [file for file, _ in runs.scan_tracks(place, None, some)] == some
    assert keys_of(place) == list(range(4, 11))


def test_nothing_is_done_where_there_is_nothing(place: Destination) -> None:
    assert keys_of(place) == []
    done = runs.find_done(place, np.array([1, 2]), listed_parts(Path(place.url), [(1, "/m/1.mp3"), (2, "/m/2.mp3")]))
    assert (done.keys.tolist(), done.again.tolist(), done.files) == ([], [], ())
    assert (done.audit.num_missing, done.audit.num_listed) == (2, 2)


def test_what_a_store_did_not_give_is_asked_for_again_and_the_rest_only_when_asked_to(place: Destination) -> None:
    write_tracks(place.url, [ok(1), failed(2, "fetch_failed"), failed(3, "corrupt")], name="a.parquet")
    write_tracks(place.url, [ok(4), ok(5)], name="b.parquet")
    write_tracks(
        place.url, [failed(6, "not_found"), failed(7, "too_short"), failed(8, "access_denied")], name="c.parquet"
    )
    listed = np.arange(1, 8)  # 8 is not listed any more, and no other version of it is
    parts = listed_parts(Path(place.url), [(key, f"/m/{key}.mp3") for key in range(1, 8)])
    done = runs.find_done(place, listed, parts)
    assert done.keys.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert done.again.tolist() == [2, 6]
    assert [file.name for file in done.files] == ["a.parquet", "c.parquet"]
    every = runs.find_done(place, listed, parts, retry_errors=True)
    assert every.again.tolist() == [2, 3, 6, 7]
    assert [file.name for file in every.files] == ["a.parquet", "c.parquet"]
    assert done.audit.errors_by_code == {"fetch_failed": 1, "corrupt": 1, "not_found": 1, "too_short": 1}


def test_a_failed_row_goes_when_any_part_of_the_manifest_lists_its_object_anew(place: Destination) -> None:
    """Rows 1 to 4 failed under keys that are not listed; parts one and three list objects 1 and 3 as 11 and 13."""
    write_tracks(place.url, [failed(1, "changed"), failed(2, "changed")], name="a.parquet")
    write_tracks(place.url, [failed(3, "changed"), failed(4, "corrupt"), ok(5)], name="b.parquet")
    write_tracks(place.url, [ok(6)], name="c.parquet")
    parts = listed_parts(
        Path(place.url),
        [(11, "/m/1.mp3")],
        [(20, "/m/other.mp3")],
        [(13, "/m/3.mp3"), (14, "/m/4.mp3")],
        [(6, "/m/6.mp3")],
    )
    listed = np.array([6, 11, 13, 14, 20])
    done = runs.find_done(place, listed, parts)
    assert done.again.tolist() == [1, 3]
    assert [file.name for file in done.files] == ["a.parquet", "b.parquet"]
    assert runs.find_done(place, listed, parts, retry_errors=True).again.tolist() == [1, 3, 4]


def test_dropped_rows_are_gone_and_every_other_stays(place: Destination) -> None:
    write_tracks(place.url, [failed(3, "not_found"), failed(4, "fetch_timeout")], name="a.parquet")
    write_tracks(place.url, [ok(1), failed(2, "not_found")], name="b.parquet")
    write_tracks(place.url, [ok(5)], name="c.parquet")
    before = pq.read_table(place.tracks, filters=[("track_key", "in", [1, 5])]).sort_by("track_key")
    untouched = Path(place.tracks, "c.parquet").stat().st_mtime_ns
    done = runs.find_done(place, np.arange(1, 6), listed_parts(Path(place.url), [(key, "") for key in range(1, 6)]))
    runs.drop(place, done)
    assert keys_of(place) == [1, 5]
    assert pq.read_table(place.tracks).sort_by("track_key").equals(before), "whole rows, as they were"
    assert not Path(place.tracks, "a.parquet").exists(), "no file of no rows"
    assert Path(place.tracks, "c.parquet").stat().st_mtime_ns == untouched


def test_the_todo_is_what_is_not_done_and_nothing_of_the_run_before(place: Destination) -> None:
    parts = listed_parts(Path(place.url), [(1, "/a"), (2, "/b"), (3, "/c")], [(4, "/d"), (5, "/e")], [(6, "/f")])
    fresh = runs.write_todo(place, parts, np.empty(0, np.int64))
    assert [(part.url, part.num_tracks) for part in fresh] == list(zip(parts, [3, 2, 1], strict=True))
    todo = runs.write_todo(place, parts, np.array([2, 4, 5, 9]))
    assert [part.num_tracks for part in todo] == [2, 1]
    assert [stores.read_table(part.url)["uri"].to_pylist() for part in todo] == [["/a", "/c"], ["/f"]]
    runs.write_todo(place, parts, np.array([1, 2, 3, 4, 5]))
    folder = Path(place.join("_checkpoint", "todo"))
    assert [path.name for path in folder.iterdir()] == ["part-00002.parquet"]
    assert runs.write_todo(place, parts, np.arange(1, 7)) == []


def test_the_audit_counts_rows_against_the_list(place: Destination) -> None:
    write_tracks(place.url, [ok(1, duration_s=10.0, coverage=0.5), failed(2, "corrupt")], name="a.parquet")
    write_tracks(place.url, [ok(1, duration_s=10.0, coverage=1.0), failed(4, "corrupt")], name="b.parquet")
    write_tracks(place.url, [failed(5, "too_short"), ok(9, duration_s=500.0)], name="c.parquet")  # 9 is not listed
    found = runs.audit(place, np.array([5, 1, 4, 2, 3]))
    assert found == Audit(
        num_listed=5,
        num_ok=2,
        num_error=3,
        errors_by_code={"corrupt": 2, "too_short": 1},
        audio_s=20.0,
        scored_s=15.0,
        num_missing=1,
        num_doubled=1,
        num_files=3,
    )
    assert list(found.errors_by_code) == ["corrupt", "too_short"], "the most frequent first"
    assert found.num_written == 5
    assert found.error_rate == pytest.approx(3 / 5)
    assert not found.is_exact
    assert runs.audit(place, np.array([2, 4])).is_exact
    nothing = runs.audit(place, np.empty(0, np.int64))
    assert (nothing.num_listed, nothing.num_ok, nothing.error_rate, nothing.num_files) == (0, 0, 0.0, 3)


def test_failures_alone_have_no_audio(place: Destination) -> None:
    write_tracks(place.url, [failed(1, "corrupt"), failed(2, "too_short")])
    found = runs.audit(place, np.array([1, 2]))
    assert (found.num_ok, found.num_error, found.audio_s, found.scored_s) == (0, 2, 0.0, 0.0)
    assert found.error_rate == 1.0


@pytest.mark.parametrize(("missing", "doubled", "is_exact"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_exact_is_no_track_missing_and_none_twice(missing: int, doubled: int, is_exact: bool) -> None:
    assert Audit(3, 3, 0, {}, 1.0, 1.0, missing, doubled, 1).is_exact is is_exact


def test_what_was_found_cannot_be_changed_by_who_reads_it(place: Destination) -> None:
    found = runs.find_done(place, np.array([1]), listed_parts(Path(place.url), [(1, "/a")]))
    for value, name in ((place, "url"), (found, "keys"), (found.audit, "num_ok"), (runs.TodoPart("a", 1), "url")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


def test_among_is_membership_in_sorted_keys() -> None:
    keys = np.array([2, 4, 6])
    assert runs.among(np.array([1, 2, 3, 6, 7]), keys).tolist() == [False, True, False, True, False]
    assert runs.among(np.array([1, 2]), np.empty(0, np.int64)).tolist() == [False, False]
    assert runs.among(np.empty(0, np.int64), keys).tolist() == []
