"""A run that is killed anywhere ends, after running again, in the table of an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.commands import environment, finished_files, read_tracks, start_tonearm, wait_for
from tests.one_process import tonearm


@pytest.fixture
def running(library: Path, settings: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    out = tmp_path / "out"
    process = start_tonearm("tag", library, "--out", out, "--demo-models", "--config", settings)
    yield process, out
    if process.poll() is None:
        process.kill()
    process.communicate()


def workers_of(process: subprocess.Popen[str], title: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if title in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def assert_equal(table: pa.Table, expected: pa.Table) -> None:
    assert table["track_key"].to_pylist() == expected["track_key"].to_pylist()
    for name in expected.column_names:
        assert table[name].to_pylist() == expected[name].to_pylist(), name


def assert_same(table: pa.Table, expected: pa.Table) -> None:
    """As ``assert_equal``, for runs with other numbers of threads, which add up in another order."""
    assert table["track_key"].to_pylist() == expected["track_key"].to_pylist()
    for name in expected.column_names:
        for number, (found, wanted) in enumerate(zip(table[name].to_pylist(), expected[name].to_pylist(), strict=True)):
            assert is_close(found, wanted), f"{name} of row {number}: {found} is not {wanted}"


def is_close(found: object, wanted: object) -> bool:
    """Return whether two values of a row are the same, their numbers within 1e-5."""
    if isinstance(found, float) and isinstance(wanted, float):
        return abs(found - wanted) <= 1e-5 * max(1.0, abs(wanted))
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(is_close(found[key], wanted[key]) for key in found)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(is_close, found, wanted))
    return found == wanted


@pytest.mark.slow
def test_killed_driver_resumes_to_the_undisturbed_table(
    running: tuple[subprocess.Popen[str], Path], undisturbed: pa.Table, library: Path, settings: Path
) -> None:
    """The same command after a killed driver ends in the rows of a run that nothing befell."""
    process, out = running
    wait_for(lambda: len(finished_files(out)) >= 2, what="two finished files", run=process)
    workers = workers_of(process, "ray::Map")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive, "workers outlive their run"
    before = len(finished_files(out))
    assert before < undisturbed.num_rows / 2, "the run was over before it was killed"
    again = tonearm("tag", library, "--out", out, "--demo-models", "--config", settings)
    assert again.returncode == 0, again.stderr
    assert "done before" in again.stderr
    assert_equal(read_tracks(out), undisturbed)


def test_each_file_has_the_configured_number_of_tracks(undisturbed_out: Path) -> None:
    sizes = [pq.read_metadata(path).num_rows for path in undisturbed_out.glob("tracks/*.parquet")]
    assert sum(sizes) == 29
    assert sorted(sizes) == [1, *[2] * 14]


@pytest.mark.slow
def test_killed_workers_are_replaced(running: tuple[subprocess.Popen[str], Path], undisturbed: pa.Table) -> None:
    """Decoding workers and then the scoring worker of a local run are killed: replaced, and every row the same."""
    process, out = running
    for title, num_files in (("decode_tracks", 0), ("ScoreTracks", 1)):
        # Decoding may be over before the first file is.
        wait_for(
            lambda: len(finished_files(out)) >= num_files and bool(workers_of(process, title)),  # noqa: B023
            what=f"a {title} worker at work",
            run=process,
        )
        for worker in workers_of(process, title):
            worker.kill()
        assert process.poll() is None, "the run was over before its worker was killed"
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert_equal(read_tracks(out), undisturbed)


@pytest.mark.slow
def test_a_second_run_into_the_same_place_is_refused_and_ctrl_c_stops_the_first(
    running: tuple[subprocess.Popen[str], Path], undisturbed: pa.Table, library: Path, settings: Path
) -> None:
    """Two runs never write to one destination at a time; Ctrl-C ends one with status 4, and its command resumes it."""
    process, out = running
    wait_for(lambda: bool(finished_files(out)), what="a finished file", run=process)
    os.kill(process.pid, signal.SIGSTOP)  # so that it is not over before the second has looked
    try:
        second = tonearm("tag", library, "--out", out, "--demo-models", "--config", settings)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert second.returncode == 2, second.stdout
    assert f"another run (process {process.pid} on " in second.stderr
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 4, errors
    assert "Run the same command to resume" in errors
    assert "Traceback" not in errors
    again = tonearm("tag", library, "--out", out, "--demo-models", "--config", settings)
    assert again.returncode == 0, again.stderr
    assert_equal(read_tracks(out), undisturbed)


# Another machine's name, so that the lock of a process that is suspended here is watched as one from elsewhere.
ELSEWHERE = """
import socket, sys
socket.gethostname = lambda: "other-machine"
from tonearm.runs.lock import run_lock
run_lock.STALE_S = 6.0
from tonearm.cli import main
sys.argv = ["tonearm", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.slow
def test_a_suspended_run_that_wakes_finds_another_has_taken_over(
    running: tuple[subprocess.Popen[str], Path], undisturbed: pa.Table, library: Path, settings: Path
) -> None:
    """A run's whole tree is stopped past the lock's silence, a second run completes; the first wakes and stops."""
    process, out = running
    wait_for(lambda: bool(finished_files(out)), what="a finished file", run=process)
    tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    command = ["tag", str(library), "--out", str(out), "--demo-models", "--config", str(settings)]
    for each in tree:
        with contextlib.suppress(psutil.Error):
            each.suspend()
    try:
        assert len(finished_files(out)) < undisturbed.num_rows / 2, "the run was over before it was suspended"
        second = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, *command],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=600,
        )
    finally:
        for each in reversed(tree):
            with contextlib.suppress(psutil.Error):
                each.resume()
    assert second.returncode == 0, second.stderr
    assert f"(process {process.pid} on " in second.stderr and "wrote there last; waiting 6 s" in second.stderr
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 4, errors
    assert "on other-machine, since" in errors and "has taken over" in errors and "Traceback" not in errors
    assert not (out / "_checkpoint" / "lock.json").exists(), "the second deleted its own"
    again = tonearm(*command)
    assert again.returncode == 0, again.stderr
    # Which row of a key counts is decided by the term in the rows; until rows carry it, and the run after removes what
    # is outranked, a row that the first run wrote after it woke is a double here.
    rows = Counter(read_tracks(out)["track_key"].to_pylist())
    assert set(rows) == set(undisturbed["track_key"].to_pylist())
    assert max(rows.values()) == 1, rows
