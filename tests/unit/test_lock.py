"""One writer at a time, whatever stops, sleeps, lags or lies; and no waiting for the dead."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.commands import environment, wait_for
from tonearm.errors import DestinationError, Stopped
from tonearm.runs.destination import Destination
from tonearm.runs.lock import hold as hold_module
from tonearm.runs.lock import lock_file, run_lock
from tonearm.runs.lock.run_lock import Hold, Holder, Machine
from tonearm.storage import filesystems

ELSEWHERE = Machine("elsewhere", "another-boot", "pid:[1]")
THIRD = Machine("third", "a-third-boot", "pid:[1]")
# What tonearm 0.1.0 writes.
OLD = {"token": "x", "host": "elsewhere", "pid": 7, "process_started": 1.5, "since": "2026-01-01 00:00:00", "beat": 3}


class FakeClock(run_lock.Clock):
    """Time passes only while somebody waits; what is planned for a moment happens then."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.planned: list[tuple[float, Callable[[], object]]] = []

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        due = [action for when, action in self.planned if when <= self.seconds]
        self.planned = [entry for entry in self.planned if entry[0] > self.seconds]
        for action in due:
            action()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait()


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination.of(str(tmp_path / "out"))


@pytest.fixture
def memory() -> Iterator[Destination]:
    """A destination that is no local one, so that claims are split as on an object store."""
    destination = Destination.of(f"memory://{os.getpid()}-{time.monotonic_ns()}/out")
    yield destination
    filesystem, path = filesystems.filesystem(destination.url)
    with contextlib.suppress(FileNotFoundError):
        filesystem.rm(path, recursive=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(run_lock, "CLOCK", fake)
    return fake


def path_of(place: Destination) -> Path:
    return Path(place.join("_checkpoint", "lock.json"))


def leave(place: Destination, **values: object) -> None:
    """Write a lock and its claim as a live run of this machine leaves them, with other ``values``."""
    holder = dataclasses.replace(Holder.of_this_process(), token="x", since="2026-01-01 00:00:00", term=1)
    text = json.dumps(dataclasses.asdict(holder) | values)
    path_of(place).parent.mkdir(parents=True, exist_ok=True)
    path_of(place).write_text(text)
    claim = Path(lock_file.claim_url(str(path_of(place)), int(str(values.get("term", 1)))))
    claim.parent.mkdir(exist_ok=True)
    if not claim.exists():
        claim.write_text(text)


def is_ours(place: Destination) -> bool:
    holder = run_lock.read_holder(place)
    return holder is not None and holder.token != "x" and holder.pid == os.getpid()


def take(place: Destination, machine: Machine = ELSEWHERE, **keywords: Any) -> Hold:
    """Take the lock as a run of another machine does; nothing beats."""
    return run_lock.acquire(run_lock.lock_url(place), place.url, machine=machine, **keywords)


def on_disk(place: Destination) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(filesystems.read_bytes(run_lock.lock_url(place)))
    return values


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


def test_the_holder_beats(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_S", 0.02)
    with run_lock.held(place):
        wait_for(lambda: on_disk(place)["beat"] >= 3, what="three beats", timeout_s=10)
        assert is_ours(place)


# Whom a process number is believed of.


def test_the_dead_are_known_where_their_number_means_something() -> None:
    ours = Holder.of_this_process()
    assert not ours.is_dead()
    assert dataclasses.replace(ours, process_started=1.0).is_dead(), "another process has its number by now"
    gone = dataclasses.replace(ours, pid=2**22 + 1)
    assert gone.is_dead(), "no process has that number"
    for other in ({"host": "elsewhere"}, {"boot_id": "another"}, {"boot_id": ""}, {"pid_namespace": "pid:[1]"}):
        assert not dataclasses.replace(gone, **other).is_dead(), other
    assert not Holder.parse(json.dumps(OLD | {"host": ours.host, "pid": gone.pid}).encode()).is_dead()


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
def test_the_holders_clock_decides_nothing(place: Destination, clock: FakeClock, at: str) -> None:
    leave(place, host="elsewhere", at=at, since=at)
    with run_lock.held(place):
        assert is_ours(place)
    assert clock.seconds >= run_lock.STALE_S


def test_a_watcher_that_slept_has_not_watched(place: Destination, clock: FakeClock) -> None:
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


# A holder that was suspended, or that its store did not let write.


def test_a_suspended_holder_finds_that_another_has_taken_over(
    place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    calls: list[Stopped] = []
    with run_lock.held(place) as first:
        first.on_lost(calls.append)
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        with run_lock.held(place) as second:
            assert second.term == first.term + 1
            first.beat()
            assert on_disk(place)["token"] == second.token, "no beat over a foreign token"
            for _ in range(2):
                with pytest.raises(Stopped) as caught:
                    first.check()
            assert "process" in caught.value.message and "on elsewhere" in caught.value.message
            assert "what is written stays. Run the same command again" in caught.value.message
            assert "\n" not in caught.value.message
            first.beat()
            assert calls == [first.lost]
            second.check()
            first.release()
            assert on_disk(place)["token"] == second.token, "only its own lock is deleted"
            late: list[Stopped] = []
            first.on_lost(late.append)
            assert late == calls, "who asks late is told at once"
    assert not path_of(place).exists()


def test_the_beats_of_a_thread_end_with_the_loss(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_S", 0.02)
    lost = threading.Event()
    with run_lock.held(place) as hold:
        with hold.on_lost(lambda failure: lost.set()):
            leave(place, host="elsewhere", term=2, token="other")
            assert lost.wait(10)
        wait_for(lambda: not any(thread.name == "lock" for thread in threading.enumerate()), what="the thread's end")
    assert on_disk(place)["token"] == "other"


def test_a_callback_that_is_forgotten_is_not_called(place: Destination, clock: FakeClock) -> None:
    calls: list[Stopped] = []
    with run_lock.held(place) as hold:
        with hold.on_lost(calls.append):
            pass
        leave(place, host="elsewhere", term=2)
        with pytest.raises(Stopped):
            hold.check()
    assert calls == []


def test_a_claim_alone_displaces_a_holder(place: Destination, clock: FakeClock) -> None:
    """The other has claimed the next term and not yet written the lock: what this one writes now is late."""
    with run_lock.held(place) as hold:
        other = dataclasses.replace(Holder.of_this_process(ELSEWHERE), term=hold.term + 1)
        filesystems.create_bytes(lock_file.claim_url(hold.url, other.term), lock_file.to_json(other).encode())
        with pytest.raises(Stopped, match="on elsewhere"):
            hold.check()


def test_a_lock_of_a_lower_term_is_written_over(place: Destination, clock: FakeClock) -> None:
    leave(place, term=3, released=True)
    with run_lock.held(place) as hold:
        leave(place, term=2, token="woke up late", host="elsewhere")
        hold.beat()
        assert on_disk(place)["token"] == hold.token
        path_of(place).unlink()
        hold.check()
        assert on_disk(place)["token"] == hold.token, "somebody deleted it"


def test_where_all_was_deleted_the_chain_has_begun_again(place: Destination, clock: FakeClock) -> None:
    """The training folder of a run that ended: a run that wakes up later owns nothing there."""
    hold = take(place)
    for path in sorted(path_of(place).parent.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(Stopped):
        hold.check()
    assert not path_of(place).exists()


def test_a_store_that_refuses_a_beat_or_the_end_does_not_end_the_run(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_S", 0.02)
    refused = threading.Event()

    def refuse(*_: object) -> None:
        refused.set()
        raise DestinationError("the store says no")

    with run_lock.held(place):
        monkeypatch.setattr(filesystems, "write_text", refuse)
        assert refused.wait(10)
        refused.clear()
        assert refused.wait(10), "it beats on"
        monkeypatch.setattr(filesystems, "delete", refuse)
    assert not any(thread.name == "lock" for thread in threading.enumerate())


def test_a_store_that_says_nothing_is_asked_again_before_an_execution(
    place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    hold, real = take(place), filesystems.read_bytes
    answers = [errno.EIO, errno.EIO]

    def read(url: str, **keywords: Any) -> bytes:
        if answers:
            raise OSError(answers.pop(), "Input/output error")
        return real(url, **keywords)

    monkeypatch.setattr(filesystems, "read_bytes", read)
    hold.check()
    assert clock.seconds == 3
    answers = [errno.EIO] * 99
    with pytest.raises(Stopped, match=r"cannot be known .*lock.json cannot be read .*Run the same command"):
        hold.check()
    assert hold.lost is None and len(answers) == 99 - hold_module.NUM_CHECKS


# What is found in the lock's place.


def test_a_read_that_fails_is_not_free(place: Destination, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", r"it begins with b'\{'"),
        (b"", "it is empty"),
        (b"\x00\xff" * 50, "it begins with"),
        (b"[" * 60_000, "it begins with"),
        (b'{"ID": "9db590f1", "Operation": "OperationTypeApply", "Who": "me@host"}', "it has no 'token'"),
        (json.dumps(OLD | {"pid": "7"}).encode(), "its 'pid' is '7'"),
        (json.dumps(OLD | {"host": "a\nb"}).encode(), "its 'host' is"),
        (json.dumps(OLD | {"term": -1}).encode(), "its 'term' is"),
        (json.dumps(OLD | {"term": 10**30}).encode(), "its 'term' is"),
        (b'"lock"', "it begins with"),
        (b" " * 10_000_000, "it has more than 65,536 bytes"),
    ],
)
def test_what_is_no_lock_is_left_alone(place: Destination, content: bytes, says: str) -> None:
    path_of(place).parent.mkdir(parents=True)
    path_of(place).write_bytes(content)
    with pytest.raises(DestinationError, match=says) as caught, run_lock.held(place):
        raise AssertionError("it counts as free")
    assert "is no lock of tonearm" in caught.value.message and "delete this file" in caught.value.message
    assert "\n" not in caught.value.message and len(caught.value.message) < 500
    assert path_of(place).read_bytes() == content
    assert not list(path_of(place).parent.glob("terms/*")), "nothing is claimed"


def test_a_large_lock_is_not_read_whole(place: Destination) -> None:
    path_of(place).parent.mkdir(parents=True)
    path_of(place).write_bytes(b" " * 10_000_000)
    assert len(filesystems.read_bytes(str(path_of(place)), max_bytes=100)) == 100
    path_of(place).write_bytes(b"")
    assert filesystems.read_bytes(str(path_of(place)), max_bytes=100) == b""


def test_a_claim_that_cannot_be_made_out_is_watched(place: Destination, clock: FakeClock) -> None:
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
    store, _ = filesystems.filesystem(there.url)
    before = store.find(filesystems.filesystem(there.url)[1])

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "AccessDenied")

    monkeypatch.setattr(store, "rm_file", refuse)
    line = (
        rf"may-delete cannot be deleted \(.*must be allowed to delete below {re.escape(there.url)}: each file of rows"
    )
    with pytest.raises(DestinationError, match=line) as refusal, run_lock.held(there):
        raise AssertionError("no lock is taken")
    assert "\n" not in refusal.value.message
    after = store.find(filesystems.filesystem(there.url)[1])
    assert [path for path in after if path not in before and not path.endswith("may-delete")] == []


def test_one_that_ended_between_its_last_two_steps_has_ended(
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


def test_a_listing_that_lags_behind_hides_nobody(
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


def test_of_two_starts_within_one_writes_latency_one_holds(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_of_many_threads_one_holds(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "ENDING_RUN_TIMEOUT_S", 0.5)
    for term in range(1, 6):
        (hold,) = race(place, 8)
        assert hold.term == term, "no term is claimed in vain"
        hold.check()
        hold.release()


@pytest.mark.processes
def test_of_many_processes_one_holds(place: Destination) -> None:
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


def test_who_was_displaced_is_stopped_whatever_it_stumbles_over(place: Destination) -> None:
    """Files that are gone and facts that are others are the successor's doing."""
    with pytest.raises(Stopped, match="has taken over"), run_lock.held(place):
        successor = dataclasses.replace(Holder.of_this_process(ELSEWHERE), term=2)
        filesystems.create_bytes(
            lock_file.claim_url(run_lock.lock_url(place), 2), lock_file.to_json(successor).encode()
        )
        raise DestinationError("tracks/ changed while it was read")
    with (
        pytest.raises(DestinationError, match="tracks/ changed"),
        run_lock.held_at(f"{place.url}/other.json", place.url),
    ):
        raise DestinationError("tracks/ changed while it was read")


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


def test_the_answer_to_a_claim_that_was_made_may_be_lost(
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


def test_one_that_fails_before_it_begins_keeps_nobody_waiting(
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


# Creating only if absent.


@pytest.mark.parametrize("refusal", [None, errno.EPERM, errno.ENOTSUP])
def test_a_file_is_created_only_if_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None) -> None:
    def link(*_: object) -> None:
        raise OSError(refusal, "no links here")

    if refusal is not None:
        monkeypatch.setattr(os, "link", link)
    url = str(tmp_path / "a" / "b.json")
    filesystems.create_bytes(url, b"first")
    with pytest.raises(FileExistsError):
        filesystems.create_bytes(url, b"second")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]
    assert Path(url).read_bytes() == b"first"


def test_a_link_whose_answer_was_lost_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: Any, target: Any) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link)
    filesystems.create_bytes(str(tmp_path / "a"), b"x")
    monkeypatch.setattr(os, "link", real)
    with pytest.raises(FileExistsError):
        filesystems.create_bytes(str(tmp_path / "a"), b"x")


def test_a_full_disk_is_no_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(DestinationError, match="no space left"):
        filesystems.create_bytes(str(tmp_path / "a"), b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_this_process_whose_end_could_not_be_written(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes no mark of the end, and the next run of a notebook must not wait for its own process."""
    first = run_lock.acquire(run_lock.lock_url(place), place.url)

    def is_full(url: str, holder: Holder) -> None:
        raise DestinationError(f"{url} cannot be written: no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(lock_file, "write", is_full)
        first.release()
    second = run_lock.acquire(run_lock.lock_url(place), place.url)
    assert second.term == first.term + 1
    second.release()
