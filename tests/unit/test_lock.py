"""One run at a time, and no waiting for the dead."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.commands import wait_for
from tonearm.errors import DestinationError
from tonearm.library import lock
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
