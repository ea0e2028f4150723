"""How far a destination is: listed, running, stopped, killed, complete."""

from __future__ import annotations

import dataclasses
import datetime
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from tests.tables import make_error, make_row, make_run, write_tracks
from tonearm.cli.results.status import lines
from tonearm.errors import DestinationError
from tonearm.runs import groups, progress
from tonearm.runs.destination import Destination
from tonearm.runs.lock import lock_file, run_lock
from tonearm.runs.manifest import manifest
from tonearm.runs.progress import Progress
from tonearm.runs.status import read_status
from tonearm.sources.listing import list_tracks
from tonearm.storage import filesystems

NOW = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    """Ten listed tracks, four of them done, one of these failed, and a row of a track that is listed no more."""
    music = tmp_path / "music"
    music.mkdir()
    for number in range(10):
        (music / f"{number}.mp3").write_bytes(b"x" * (number + 1))
    destination = Destination.of(str(tmp_path / "out"))
    manifest.write_manifest([str(music)], destination.manifest)
    keys = [ref.track_key for ref in list_tracks([str(music)])]
    random = np.random.default_rng(0)
    rows = [make_row(number, random, track_key=key) for number, key in enumerate(keys[:3])]
    rows += [make_error(3, random, track_key=keys[3], error_code="corrupt"), make_row(4, random)]
    write_tracks(destination.url, rows)
    return destination


class FakeClock(run_lock.Clock):
    """Time passes only while somebody waits; ``beats`` happens at its moment."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.beats: tuple[float, Callable[[], object]] | None = None

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.beats is not None and self.beats[0] <= self.seconds:
            beat, self.beats = self.beats[1], None
            beat()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(run_lock, "CLOCK", fake)
    return fake


def hold(destination: Destination, **changes: object) -> run_lock.Holder:
    holder = dataclasses.replace(run_lock.Holder.of_this_process(), since="2026-03-01 11:00:00", term=1)
    holder = dataclasses.replace(holder, **{"at": "2026-03-01 11:59:50", **changes})
    lock_file.write(run_lock.lock_url(destination), holder)
    return holder


def said(destination: Destination) -> str:
    return "\n".join(lines(read_status(destination.url)))


def test_unfinished_without_a_run(place: Destination) -> None:
    found = read_status(place.url)
    assert (found.num_listed, found.num_done, found.errors_by_code, found.num_files) == (10, 4, {"corrupt": 1}, 1)
    assert found.state == "unfinished"
    assert "3 of 10 tracks tagged, 1 failed (40.0% done)" in said(place)
    assert "run the same command to resume" in said(place)


def test_a_failed_row_without_a_code_is_counted(place: Destination) -> None:
    path = next(Path(place.tracks).glob("*.parquet"))
    rows = pq.read_table(path).to_pylist()
    write_tracks(place.url, [{**row, "error_code": None} for row in rows], name=path.name)
    assert read_status(place.url).errors_by_code == {"unknown": 1}
    assert "3 of 10 tracks tagged, 1 failed (40.0% done)" in said(place)


def test_running_with_rate_and_time_left(place: Destination) -> None:
    hold(place)
    started = NOW - datetime.timedelta(seconds=100)
    progress.write(place, Progress("r", "tagging", started, NOW, 10, 2, 2, 1, 3600.0))
    found = read_status(place.url)
    assert (found.state, found.silent_s) == ("running", None)
    assert f"running: process {os.getpid()} on {socket.gethostname()}" in said(place)
    assert "this run: 2 tracks, 60.0 min of audio in 1:40, 36× real time, 5:00 left" in said(place)


@pytest.mark.processes
def test_killed_here_is_known_at_once(place: Destination) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = psutil.Process(process.pid).create_time()
        hold(place, pid=process.pid, process_started=started)
        assert read_status(place.url).state == "running"
        process.kill()
    assert read_status(place.url).state == "killed"
    assert "was killed; run the same command to resume" in said(place)


def test_killed_elsewhere_is_known_by_its_silence(place: Destination, clock: FakeClock) -> None:
    holder, told = hold(place, host="elsewhere"), []
    found = read_status(place.url, waiting=told.append)
    assert found.state == "killed" and found.silent_s is not None
    assert run_lock.STALE_S <= found.silent_s == clock.seconds < run_lock.STALE_S + 2 * run_lock.POLL_S
    assert told == [f"waiting up to 50 s for a sign of life of process {holder.pid} on elsewhere"]
    assert "gave no sign of life for 50 s; run the same command to resume" in "\n".join(lines(found))


@pytest.mark.parametrize("skew_s", [-120, 0, 120])
def test_the_clocks_of_two_machines_are_not_compared(place: Destination, clock: FakeClock, skew_s: int) -> None:
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=skew_s)
    holder = hold(place, host="elsewhere", at=at.strftime(lock_file.SINCE))
    clock.beats = (7.0, lambda: lock_file.write(run_lock.lock_url(place), dataclasses.replace(holder, beat=1)))
    found = read_status(place.url)
    assert (found.state, found.silent_s) == ("running", 8.0), "it answers with the first beat"
    assert "; a sign of life came after 8 s" in "\n".join(lines(found))


def test_the_same_host_name_in_another_container_is_watched(place: Destination, clock: FakeClock) -> None:
    holder = hold(place, pid=2**22 + 1, pid_namespace="pid:[4026532000]")
    clock.beats = (7.0, lambda: lock_file.write(run_lock.lock_url(place), dataclasses.replace(holder, beat=1)))
    assert read_status(place.url).state == "running"


def test_a_run_that_ends_while_it_is_watched(place: Destination, clock: FakeClock) -> None:
    hold(place, host="elsewhere")
    clock.beats = (7.0, lambda: filesystems.delete(run_lock.lock_url(place)))
    found = read_status(place.url)
    assert (found.state, found.holder) == ("unfinished", None)


def test_a_released_lock_is_none(place: Destination) -> None:
    hold(place, released=True)
    assert read_status(place.url).state == "unfinished"


@pytest.mark.parametrize("where", ["lock", "claim"])
def test_a_run_that_ended_and_may_not_delete_its_lock_was_not_killed(place: Destination, where: str) -> None:
    """Its process is gone, as that of a killed one is."""
    holder = hold(place, process_started=1.0, released=where == "lock")
    claim = lock_file.claim_url(run_lock.lock_url(place), 1)
    lock_file.write(claim, dataclasses.replace(holder, released=where == "claim"))
    assert (read_status(place.url).state, read_status(place.url).holder) == ("unfinished", None)
    lock_file.write(claim, dataclasses.replace(holder, released=False))
    hold(place, token=holder.token, process_started=1.0)
    assert read_status(place.url).state == "killed"


def test_what_is_no_lock_is_said(place: Destination) -> None:
    Path(run_lock.lock_url(place)).parent.mkdir(exist_ok=True)
    Path(run_lock.lock_url(place)).write_text("{")
    with pytest.raises(DestinationError, match="is no lock of tonearm"):
        read_status(place.url)


def test_stopped_says_why(place: Destination) -> None:
    progress.write(place, Progress("r", "the disk is full; free some space", NOW, NOW, 10))
    assert read_status(place.url).state == "stopped"
    assert "stopped at 2026-03-01 12:00:00 UTC: the disk is full; free some space" in said(place)


def grown(place: Destination, groups_there: dict[str, groups.Group]) -> None:
    """Have three rows say that they have the genre of ``groups_there``, and one a second time, outranked."""
    groups.write(place, groups_there)
    path = next(Path(place.tracks).glob("*.parquet"))
    rows = pq.read_table(path).to_pylist()
    named = [{**row, "genre_settings": groups_there["genre"].hash} for row in rows]
    write_tracks(place.url, [{**row, "term": 2} for row in named[:3]] + rows[3:], name=path.name)
    write_tracks(place.url, [{**rows[0], "term": 1}], name="before.parquet")


def test_what_is_missing_superseded_and_no_longer_listed(place: Destination) -> None:
    """Also of a head that only a later tonearm knows."""
    grown(place, {name: groups.Group({"model": name}) for name in ("read", "genre", "tags", "mood")})
    found = read_status(place.url)
    assert (found.missing_by_group, found.num_superseded, found.num_unlisted) == ({"tags": 3}, 1, 1)
    assert "tags is missing in 3 of them; tag with that model again to add it" in said(place)
    assert "superseded: 1 row; the next run removes them" in said(place)
    assert "no longer listed: 1 track has a row that nothing shows" in said(place)


def test_a_head_that_could_not_be_added_is_counted_apart(place: Destination) -> None:
    """A run leaves such a row as it is, so that to tag again adds nothing."""
    grown(place, {name: groups.Group({"model": name}) for name in ("read", "genre", "tags")})
    path = next(Path(place.tracks).glob("part-*.parquet"))
    rows = pq.read_table(path).to_pylist()
    write_tracks(place.url, [{**rows[0], "error_code": "corrupt"}, *rows[1:]], name=path.name)
    found = read_status(place.url)
    assert (found.missing_by_group, found.failed_by_group) == ({"tags": 3}, {"tags": 1})
    assert "tags is missing in 2 of them; tag with that model again to add it" in said(place)
    assert (
        "tags could not be added to 1 of them; their error_message says why, and `tonearm tag --retry-errors`"
        in said(place)
    )


def test_a_run_that_stopped_before_every_row_had_its_group_is_not_complete(place: Destination) -> None:
    grown(place, {name: groups.Group({"model": name}) for name in ("read", "genre", "tags")})
    music = Path(place.url).parent / "music"
    for path in sorted(music.iterdir())[4:]:
        path.unlink()
    manifest.write_manifest([str(music)], place.manifest)
    assert read_status(place.url).state == "complete"
    progress.write(place, Progress("r", "by a signal; run the same command to resume", NOW, NOW, 4))
    assert read_status(place.url).state == "stopped"
    assert "stopped at 2026-03-01 12:00:00 UTC: by a signal; run the same command to resume" in said(place)
    progress.clear(place)
    assert read_status(place.url).state == "complete", "a run of the genre alone leaves the tags as they are"


def test_complete_with_the_last_run(place: Destination) -> None:
    path = next(Path(place.tracks).glob("*.parquet"))
    table = pq.read_table(path)
    rows = table.to_pylist()
    listed = manifest.read_keys(place.manifest).tolist()
    missing = [key for key in listed if key not in table["track_key"].to_pylist()]
    write_tracks(place.url, [{**rows[0], "track_key": key} for key in missing], name="part-1.parquet")
    make_run(place.url)
    assert read_status(place.url).state == "complete"
    assert "9 of 10 tracks tagged, 1 failed (100.0% done)" in said(place)
    assert "last run that ended: 20250309T140511-0a1b2c-9f3e, 1,200 tracks in 21:04" in said(place)


def test_a_first_listing_under_way(tmp_path: Path) -> None:
    destination = Destination.of(str(tmp_path))
    hold(destination)
    progress.write(destination, Progress("r", "listing", NOW, NOW, 40_000))
    assert "being listed, 40,000 tracks so far" in said(destination)


@pytest.mark.parametrize("name", ["progress.json", "runs"])
def test_a_failing_store_is_one_line_of_error(place: Destination, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The last run is left out then; the rest cannot be said."""
    make_run(place.url)
    store = filesystems.locate("memory://bucket").store
    there = Destination.of(f"memory://{place.url.strip('/')}/out")
    for path in Path(place.url).rglob("*.*"):
        filesystems.write_bytes(f"{there.url}/{path.relative_to(place.url)}", path.read_bytes())
    for asked in ("ls", "info", "cat_file"):

        def fail(
            path: str, *args: object, real: Callable[..., object] = getattr(store, asked), **named: object
        ) -> object:
            if path.endswith(name):
                raise TimeoutError("no answer")
            return real(path, *args, **named)

        monkeypatch.setattr(store, asked, fail)
    if name == "runs":
        assert read_status(there.url).last is None
        return
    with pytest.raises(DestinationError, match="cannot be read"):
        read_status(there.url)


def test_a_place_without_a_run_is_one_line_of_error(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match=r"holds no run .*tonearm tag SOURCE --out RUN"):
        read_status(str(tmp_path / "none"))
