"""One run at a time, and no waiting for the dead."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.commands import wait_for
from tonearm.errors import DestinationError
from tonearm.library import lock, stores
from tonearm.library.runs import Destination


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination.of(str(tmp_path / "out"))


def path_of(place: Destination) -> Path:
    return Path(place.join("_checkpoint", "lock.json"))


def leave(place: Destination, **values: object) -> None:
    process = psutil.Process()
    holder = lock.Holder("x", socket.gethostname(), process.pid, process.create_time(), "2026-01-01 00:00:00")
    path_of(place).parent.mkdir(parents=True, exist_ok=True)
    path_of(place).write_text(json.dumps(dataclasses.asdict(holder) | values))


def is_ours(place: Destination) -> bool:
    holder = lock.read_holder(place)
    return holder is not None and holder.token != "x" and holder.pid == os.getpid()


def test_a_second_run_is_refused_and_the_first_leaves_nothing(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "GRACE_S", 0.2)
    with lock.held(place):
        says = f"process {os.getpid()} on .* is writing to .*out; wait"
        with pytest.raises(DestinationError, match=says), lock.held(place):
            pass
        assert path_of(place).exists()
    assert not path_of(place).exists()
    with lock.held(place):
        assert is_ours(place)


@pytest.mark.processes
def test_a_run_that_is_ending_is_waited_for(place: Destination) -> None:
    # Killed and not yet waited for by its parent: a zombie, whose number is still taken.
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    leave(place, pid=process.pid, process_started=psutil.Process(process.pid).create_time())
    timer = threading.Timer(0.3, process.kill)
    timer.start()
    with lock.held(place):
        assert is_ours(place)
    process.communicate()


def test_this_machines_own_run_is_given_its_grace_and_no_longer(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live process of this machine: its end within the grace is enough, and its beats are no reason to give up."""
    monkeypatch.setattr(lock, "GRACE_S", 20.0)
    monkeypatch.setattr(lock, "POLL_S", 30.0)
    leave(place)
    beating, ending = threading.Timer(0.3, leave, [place], {"beat": 1}), threading.Timer(2.5, path_of(place).unlink)
    beating.start(), ending.start()
    said: list[str] = []
    with lock.held(place, waiting=said.append):
        assert is_ours(place)
    ending.join()
    assert said == [], "nobody waits for another machine"
    monkeypatch.setattr(lock, "GRACE_S", 0.4)
    monkeypatch.setattr(lock, "STALE_S", 60.0)
    leave(place)
    started = time.monotonic()
    with pytest.raises(DestinationError, match=f"process {os.getpid()} on "), lock.held(place):
        pass
    assert 0.4 <= time.monotonic() - started < 20
    assert json.loads(path_of(place).read_text())["token"] == "x", "the lock of the other stays"


def test_who_holds_it_is_written_down(place: Destination) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    with lock.held(place):
        holder = lock.read_holder(place)
        assert holder is not None
        assert (holder.host, holder.pid, holder.beat) == (socket.gethostname(), os.getpid(), 0)
        assert holder.process_started == psutil.Process().create_time()
        assert before <= holder.last_beat <= datetime.datetime.now(datetime.UTC)
        assert not holder.is_dead()
    assert lock.read_holder(place) is None
    at = dataclasses.replace(holder, since="2026-01-01 00:00:00", at="2026-01-02 03:04:05")
    assert at.last_beat == datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert dataclasses.replace(at, at="").last_beat == datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_the_dead_are_known_on_their_own_machine_alone(place: Destination) -> None:
    process = psutil.Process()
    ours = lock.Holder("x", socket.gethostname(), process.pid, process.create_time(), "2026-01-01 00:00:00")
    assert not ours.is_dead()
    assert dataclasses.replace(ours, process_started=1.0).is_dead(), "another process has its number by now"
    assert dataclasses.replace(ours, pid=2**22 + 1).is_dead(), "no process has that number"
    assert not dataclasses.replace(ours, pid=2**22 + 1, host="elsewhere").is_dead()


def test_of_two_that_found_it_free_the_last_writer_has_it(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    real = stores.write_text

    def beaten(url: str, text: str) -> None:
        real(url, text)
        if url.endswith("lock.json"):
            leave(place, host="elsewhere", token="other")

    monkeypatch.setattr(stores, "write_text", beaten)
    says = r"on elsewhere, since 2026-01-01 00:00:00 UTC.*wait until it is done"
    with pytest.raises(DestinationError, match=says), lock.held(place):
        raise AssertionError("both hold it")
    assert json.loads(path_of(place).read_text())["token"] == "other"


def test_a_store_that_refuses_a_beat_or_the_end_does_not_end_the_run(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    refused = threading.Event()

    def refuse(*_: object) -> None:
        refused.set()
        raise DestinationError("the store says no")

    with lock.held(place):
        monkeypatch.setattr(stores, "write_text", refuse)
        assert refused.wait(10)
        refused.clear()
        assert refused.wait(10), "it beats on"
        monkeypatch.setattr(stores, "delete", refuse)
    assert not any(thread.name == "lock" for thread in threading.enumerate())


def test_a_stale_lock_is_said_to_be_waited_for_so_long(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE_S", 1.4)
    monkeypatch.setattr(lock, "POLL_S", 0.1)
    leave(place, host="elsewhere")
    said: list[str] = []
    started = time.monotonic()
    with lock.held(place, waiting=said.append):
        assert time.monotonic() - started >= 1.4
    (line,) = said
    assert line.endswith("wrote there last; waiting 1 s to see whether it still does")
    assert "(process" in line and "on elsewhere, since 2026-01-01 00:00:00 UTC)" in line


def test_it_is_freed_when_the_run_fails(place: Destination) -> None:
    with pytest.raises(RuntimeError), lock.held(place):
        raise RuntimeError
    assert not path_of(place).exists()


@pytest.mark.processes
def test_a_dead_process_of_this_machine_holds_nothing(place: Destination) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    leave(place, pid=process.pid)
    with lock.held(place):
        assert is_ours(place)
    # The number of a process that is gone may be another's by now.
    leave(place, process_started=1.0)
    with lock.held(place):
        assert is_ours(place)


def test_a_silent_lock_of_another_machine_is_taken_over(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE_S", 0.3)
    monkeypatch.setattr(lock, "POLL_S", 0.05)
    leave(place, host="elsewhere")
    said: list[str] = []
    with lock.held(place, waiting=said.append):
        assert is_ours(place)
    assert len(said) == 1 and "on elsewhere" in said[0]


def test_a_beating_lock_of_another_machine_is_respected(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE_S", 30.0)
    monkeypatch.setattr(lock, "POLL_S", 0.05)
    leave(place, host="elsewhere")
    timer = threading.Timer(0.2, leave, [place], {"host": "elsewhere", "beat": 1})
    timer.start()
    with pytest.raises(DestinationError, match="on elsewhere"), lock.held(place):
        pass
    timer.join()


def test_the_holder_beats(place: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    with lock.held(place):
        wait_for(lambda: json.loads(path_of(place).read_text())["beat"] >= 3, what="three beats", timeout_s=10)
        assert is_ours(place)


def test_a_damaged_lock_is_none(place: Destination) -> None:
    path_of(place).parent.mkdir(parents=True)
    path_of(place).write_text("{")
    with lock.held(place):
        assert is_ours(place)
