"""One writer at a time, whatever stops, sleeps, lags or lies; and no waiting for the dead."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.commands import environment
from tests.unit.runs.lock.locks import OLD, FakeClock, is_ours, leave, on_disk, path_of, take
from tonearm.errors import DestinationError
from tonearm.runs.destination import Destination
from tonearm.runs.lock import lock_file, run_lock
from tonearm.runs.lock.run_lock import Hold, Holder, Machine
from tonearm.storage import filesystems

THIRD = Machine("third", "a-third-boot", "pid:[1]")


def race(place: Destination, num_writers: int) -> list[Hold]:
    """Have several threads take the lock at once; return who got it. Those who were refused said who has it."""
    gate, holds, others = threading.Barrier(num_writers), [], []

    def start() -> None:
        gate.wait()
        try:
            holds.append(run_lock.acquire(run_lock.lock_url(place), place.url))
        except DestinationError as error:
            others.append(error.message)

    threads = [threading.Thread(target=start) for _ in range(num_writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(holds) + len(others) == num_writers
    assert all(f"process {os.getpid()} on" in message for message in others), others
    return holds


# Refused, waited for, freed.


def test_a_second_run_is_refused_and_the_first_leaves_nothing(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "ENDING_RUN_TIMEOUT_S", 0.2)
    with run_lock.held(place) as first:
        says = f"process {os.getpid()} on .* is writing to .*out; wait"
        with pytest.raises(DestinationError, match=says), run_lock.held(place):
            pass
        assert path_of(place).exists()
        first.check()
    assert not path_of(place).exists()
    with run_lock.held(place) as second:
        assert is_ours(place)
        assert (first.term, second.term) == (1, 2)


@pytest.mark.processes
def test_a_run_that_is_ending_is_waited_for(place: Destination) -> None:
    # Killed and not yet waited for by its parent: a zombie, whose number is still taken.
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    leave(place, pid=process.pid, process_started=psutil.Process(process.pid).create_time())
    timer = threading.Timer(0.3, process.kill)
    timer.start()
    with run_lock.held(place):
        assert is_ours(place)
    process.communicate()


def test_this_machines_own_run_is_given_its_grace_and_no_longer(place: Destination, clock: FakeClock) -> None:
    """A live process of this machine: its end within the grace is enough, and its beats are no reason to give up."""
    holder = run_lock.acquire(run_lock.lock_url(place), place.url)
    clock.planned = [(1.0, holder.beat), (2.5, holder.release)]
    said: list[str] = []
    with run_lock.held(place, waiting=said.append) as ours:
        assert is_ours(place)
        assert ours.term == 2
    assert said == [], "nobody waits for another machine"
    leave(place, term=3)
    clock.seconds = 0.0
    with pytest.raises(DestinationError, match=f"process {os.getpid()} on "), run_lock.held(place):
        pass
    assert run_lock.ENDING_RUN_TIMEOUT_S <= clock.seconds < run_lock.ENDING_RUN_TIMEOUT_S + run_lock.POLL_S
    assert on_disk(place)["token"] == "x", "the lock of the other stays"


def test_who_holds_it_is_written_down(place: Destination) -> None:
    with run_lock.held(place) as hold:
        holder = run_lock.read_holder(place)
        assert holder is not None
        assert (holder.host, holder.pid, holder.beat) == (socket.gethostname(), os.getpid(), 0)
        assert (holder.term, holder.token) == (hold.term, hold.token)
        assert holder.process_started == psutil.Process().create_time()
        assert holder.boot_id and holder.is_here() and not holder.is_dead()
    assert run_lock.read_holder(place) is None


def test_it_is_freed_when_the_run_fails(place: Destination) -> None:
    with pytest.raises(RuntimeError), run_lock.held(place):
        raise RuntimeError
    assert not path_of(place).exists()


# Whom a process number is believed of.


@pytest.mark.processes
def test_a_dead_process_of_this_machine_holds_nothing(place: Destination) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    leave(place, pid=process.pid)
    with run_lock.held(place):
        assert is_ours(place)
    # The number of a process that is gone may be another's by now.
    leave(place, process_started=1.0, term=3)
    with run_lock.held(place):
        assert is_ours(place)


def test_the_same_host_name_in_another_container_is_another_machine(place: Destination, clock: FakeClock) -> None:
    """Two containers of one host name: no process of that number is here, and the run there is alive."""
    pid = 2**22 + 1
    leave(place, pid=pid, pid_namespace="pid:[4026532000]")
    clock.planned = [(run_lock.HEARTBEAT_S, lambda: leave(place, pid=pid, pid_namespace="pid:[4026532000]", beat=1))]
    with pytest.raises(DestinationError, match=f"process {pid} on"), run_lock.held(place):
        pass
    assert on_disk(place)["token"] == "x"


@pytest.mark.processes
def test_a_run_in_a_container_of_the_same_host_name_is_respected(place: Destination) -> None:
    """A real PID namespace: the holder's number means nothing here, or another process."""
    program = "import sys; from tonearm.runs.lock import run_lock; from tonearm.runs.destination import Destination\n"
    program += "run_lock.HEARTBEAT_S = 0.2\n"
    program += "with run_lock.held(Destination.of(sys.argv[1])): print('holds', flush=True); input()"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program, place.url]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "holds\n":
            pytest.skip(f"no PID namespace here: {process.communicate()[1][-200:]}")
        with pytest.raises(DestinationError, match="is writing to"), run_lock.held(place):
            pass
    finally:
        process.communicate("\n")


# Silence, which is measured by one's own clock alone.


def test_a_silent_lock_of_another_machine_is_taken_over(place: Destination, clock: FakeClock) -> None:
    leave(place, host="elsewhere", term=4)
    said: list[str] = []
    with run_lock.held(place, waiting=said.append) as hold:
        assert is_ours(place)
        assert hold.term == 5
    assert run_lock.STALE_S <= clock.seconds < run_lock.STALE_S + 2 * run_lock.POLL_S
    (line,) = said
    assert line.endswith("wrote there last; waiting 50 s to see whether it still does")
    assert "(process" in line and "on elsewhere, since 2026-01-01 00:00:00 UTC)" in line


def test_a_beating_lock_of_another_machine_is_respected(place: Destination, clock: FakeClock) -> None:
    leave(place, host="elsewhere")
    clock.planned = [(40.0, lambda: leave(place, host="elsewhere", beat=1))]
    with pytest.raises(DestinationError, match="on elsewhere"), run_lock.held(place):
        pass
    assert clock.seconds < 45


@pytest.mark.parametrize("at", ["2020-01-01 00:00:00", "2099-01-01 00:00:00"])
def test_times_in_a_lock_are_not_compared_with_the_local_clock(place: Destination, clock: FakeClock, at: str) -> None:
    leave(place, host="elsewhere", at=at, since=at)
    with run_lock.held(place):
        assert is_ours(place)
    assert clock.seconds >= run_lock.STALE_S


def test_time_asleep_does_not_count_as_time_watched(place: Destination, clock: FakeClock) -> None:
    """Both machines sleep for an hour, say as guests of one host: the first to wake does not take over."""
    leave(place, host="elsewhere")

    def sleep() -> None:
        clock.seconds += 3600
        clock.planned = [(clock.seconds + 15, lambda: leave(place, host="elsewhere", beat=1))]

    clock.planned = [(4.0, sleep)]
    with pytest.raises(DestinationError, match="on elsewhere"), run_lock.held(place):
        pass


def test_a_lock_of_the_last_version_is_understood(place: Destination, clock: FakeClock) -> None:
    path_of(place).parent.mkdir(parents=True)
    path_of(place).write_text(json.dumps(OLD))
    clock.planned = [(15.0, lambda: path_of(place).write_text(json.dumps(OLD | {"beat": 4})))]
    with pytest.raises(DestinationError, match="process 7 on elsewhere"), run_lock.held(place):
        pass
    with run_lock.held(place) as hold:
        assert hold.term == 1
    # And beside claims of today's.
    path_of(place).write_text(json.dumps(OLD))
    clock.planned = [(clock.seconds + 15, lambda: path_of(place).write_text(json.dumps(OLD | {"beat": 4})))]
    with pytest.raises(DestinationError, match="process 7 on elsewhere"), run_lock.held(place):
        pass


# What is found in the lock's place.


def test_a_lock_that_cannot_be_read_is_not_taken_for_free(
    place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    with run_lock.held(place) as first:
        real = filesystems.read_bytes

        def fail(url: str, **keywords: Any) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(filesystems, "read_bytes", fail)
        with pytest.raises(DestinationError, match="cannot be read") as caught, run_lock.held(place):
            pass
        assert "\n" not in caught.value.message
        monkeypatch.setattr(filesystems, "read_bytes", real)
        assert on_disk(place)["token"] == first.token


def test_an_unreadable_claim_is_watched_before_it_is_taken_over(place: Destination, clock: FakeClock) -> None:
    leave(place, term=3, released=True)
    Path(lock_file.claim_url(str(path_of(place)), 4)).write_text("{")
    with run_lock.held(place) as hold:
        assert hold.term == 5
    assert clock.seconds >= run_lock.STALE_S


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    says = "a file is where a folder should be"
    with pytest.raises(DestinationError, match=says), run_lock.held(Destination.of(str(tmp_path / "out"))):
        pass


def test_without_the_right_to_delete(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> None:
        raise DestinationError(f"{url} cannot be written (AccessDenied); give a place you may write, or other keys")

    monkeypatch.setattr(filesystems, "delete", refuse)
    monkeypatch.setattr(run_lock, "KEPT_TERMS", 0)
    said: list[str] = []
    for term in (1, 2, 3):
        with run_lock.held_at(run_lock.lock_url(place), place.url, waiting=said.append) as hold:
            assert hold.term == term
        assert on_disk(place)["released"] is True
        assert run_lock.read_holder(place) is None
    assert said == []


@pytest.mark.parametrize("is_local", [True, False])
def test_a_run_that_may_not_delete_is_told_so_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    """As with keys that may only put and get: Ray Data would fail after its first file of rows, an hour later maybe."""
    there = Destination.of(str(tmp_path / "out") if is_local else f"memory://{tmp_path.name}/out")
    with run_lock.held(there):
        pass
    location = filesystems.locate(there.url)
    before = location.store.find(location.path)

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "AccessDenied")

    monkeypatch.setattr(location.store, "rm_file", refuse)
    line = (
        rf"may-delete cannot be deleted \(.*must be allowed to delete below {re.escape(there.url)}: each file of rows"
    )
    with pytest.raises(DestinationError, match=line) as refusal, run_lock.held(there):
        raise AssertionError("no lock is taken")
    assert "\n" not in refusal.value.message
    after = location.store.find(location.path)
    assert [path for path in after if path not in before and not path.endswith("may-delete")] == []


def test_a_run_killed_after_releasing_its_claim_has_ended(
    place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    hold = take(place)
    monkeypatch.setattr(filesystems, "delete", lambda url: None)
    hold.release()
    assert path_of(place).exists()
    assert run_lock.read_holder(place) is None
    with run_lock.held(place):
        assert is_ours(place)
    assert clock.seconds == 0


def test_a_claim_missing_from_a_stale_listing_is_found(
    place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    take(place).release()
    first = take(place)
    monkeypatch.setattr(lock_file, "list_claims", lambda url: [])
    path_of(place).unlink()
    clock.planned = [(15.0, first.beat)]
    with pytest.raises(DestinationError, match="on elsewhere"):
        take(place, THIRD)
    first.check()


def test_claims_of_long_ago_are_tidied_away(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "KEPT_TERMS", 2)
    for _ in range(6):
        with run_lock.held(place) as hold:
            pass
    assert hold.term == 6
    assert lock_file.list_claims(hold.url) == [4, 5, 6]


# Two starts at once.


def test_of_two_runs_that_start_at_once_one_gets_the_lock(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has seen that it is free, and its first write takes long; the other starts meanwhile and holds it."""
    monkeypatch.setattr(run_lock, "ENDING_RUN_TIMEOUT_S", 0.3)
    writes, about_to_write, go_on = {}, threading.Event(), threading.Event()

    def slowed(name: str) -> Callable[..., None]:
        def write(*arguments: Any) -> None:
            if threading.current_thread().name == "slow" and not go_on.is_set():
                about_to_write.set()
                go_on.wait(30)
            writes[name](*arguments)

        return write

    for name in ("write_text", "create_bytes"):
        writes[name] = getattr(filesystems, name)
        monkeypatch.setattr(filesystems, name, slowed(name))
    outcomes: list[str] = []

    def start() -> None:
        try:
            with run_lock.held(place):
                outcomes.append("held")
        except DestinationError:
            outcomes.append("refused")

    slow = threading.Thread(target=start, name="slow")
    slow.start()
    assert about_to_write.wait(30)
    with run_lock.held(place) as hold:
        go_on.set()
        slow.join()
        assert outcomes == ["refused"]
        hold.check()


def test_a_claimer_that_was_suspended_before_it_wrote_the_lock(
    place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """It wakes when another has long claimed the next term: it writes over the lock, sees that, and is refused."""
    real, others = lock_file.write, []

    def write(url: str, holder: Holder) -> None:
        if url == run_lock.lock_url(place) and not others:
            others.append(None)
            others[0] = take(place, THIRD)
        real(url, holder)

    monkeypatch.setattr(lock_file, "write", write)
    clock.planned = [(75.0, lambda: others[0].beat())]
    with pytest.raises(DestinationError, match="on third"):
        take(place)
    assert on_disk(place)["token"] == others[0].token
    others[0].check()
    assert others[0].term == 2


def test_of_many_threads_one_gets_the_lock(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "ENDING_RUN_TIMEOUT_S", 0.5)
    for term in range(1, 6):
        (hold,) = race(place, 8)
        assert hold.term == term, "no term is claimed in vain"
        hold.check()
        hold.release()


@pytest.mark.processes
def test_of_many_processes_one_gets_the_lock(place: Destination) -> None:
    program = (
        "import sys, time; from tonearm.runs.lock import run_lock; from tonearm.runs.destination import Destination\n"
    )
    program += "from tonearm.errors import DestinationError\nrun_lock.ENDING_RUN_TIMEOUT_S = 0.5\n"
    program += "print('ready', flush=True); sys.stdin.readline()\n"
    program += "try:\n with run_lock.held(Destination.of(sys.argv[1])) as hold:\n"
    program += "  print('holds', hold.term, flush=True); sys.stdin.readline(); hold.check()\n"
    program += "except DestinationError: print('refused', flush=True)"
    command = [sys.executable, "-c", program, place.url]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
        for _ in range(4)
    ]
    said: list[str] = []
    for turn in ("ready", "answer", "end"):
        for process in processes:
            assert process.stdin is not None and process.stdout is not None
            if turn == "ready":
                assert process.stdout.readline() == "ready\n"
            elif turn == "answer":
                process.stdin.write("\n")
                process.stdin.flush()
        if turn == "answer":
            said = [process.stdout.readline().strip() for process in processes if process.stdout is not None]
    for process in processes:
        process.communicate("\n" if process.poll() is None else None)
    assert sorted(said) == ["holds 1", "refused", "refused", "refused"]
    assert all(process.returncode == 0 for process in processes)


def test_a_store_that_ignores_preconditions(memory: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several create the claim; the run says so, waits, and at most one holds at a time."""

    def create(url: str, data: bytes) -> None:
        time.sleep(0.03)
        filesystems.write_bytes(url, data)

    monkeypatch.setattr(filesystems, "create_bytes", create)
    monkeypatch.setattr(run_lock, "SETTLE_S", 0.3)
    monkeypatch.setattr(run_lock, "ENDING_RUN_TIMEOUT_S", 1.5)
    said: list[str] = []
    with run_lock.held(memory, waiting=said.append):
        assert is_ours(memory)
    assert len(said) == 1 and "lets two runs create one object" in said[0]
    for _ in range(2):
        (hold,) = race(memory, 6)
        hold.check()
        hold.release()


def test_a_store_that_looks_first_and_writes_later(memory: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swift does: it refuses the second of two, but of eight at once it lets up to eight create one object."""

    def create(url: str, data: bytes) -> None:
        if filesystems.exists(url):
            raise FileExistsError(url)
        time.sleep(0.03)
        filesystems.write_bytes(url, data)

    monkeypatch.setattr(filesystems, "create_bytes", create)
    monkeypatch.setattr(run_lock, "SETTLE_S", 0.3)
    monkeypatch.setattr(run_lock, "ENDING_RUN_TIMEOUT_S", 1.5)
    for _ in range(3):
        (hold,) = race(memory, 8)
        hold.check()
        hold.release()


def test_a_claim_whose_response_was_lost_is_kept(
    memory: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """The client asks again, and is told that the object is there: its own."""
    real = filesystems.create_bytes

    def create(url: str, data: bytes) -> None:
        with contextlib.suppress(FileExistsError):
            real(url, data)
        raise FileExistsError(url)

    monkeypatch.setattr(filesystems, "create_bytes", create)
    with run_lock.held(memory) as hold:
        assert hold.term == 1
        hold.check()


def test_a_run_that_fails_before_it_begins_releases_its_claim(
    place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    real = lock_file.write

    def fail(url: str, holder: Holder) -> None:
        if url == run_lock.lock_url(place):
            raise DestinationError("no space left")
        real(url, holder)

    with monkeypatch.context() as patch:
        patch.setattr(lock_file, "write", fail)
        with pytest.raises(DestinationError, match="no space left"):
            take(place)
    with run_lock.held(place) as hold:
        assert hold.term == 2
    assert clock.seconds == 0
