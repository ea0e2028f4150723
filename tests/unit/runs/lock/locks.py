"""Locks as other runs leave them, on a clock that a test turns."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tonearm.runs.destination import Destination
from tonearm.runs.lock import lock_file, run_lock
from tonearm.runs.lock.run_lock import Hold, Holder, Machine
from tonearm.storage import filesystems

ELSEWHERE = Machine("elsewhere", "another-boot", "pid:[1]")
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


def take(place: Destination, machine: Machine = ELSEWHERE, **keywords: Any) -> Hold:
    """Take the lock as a run of another machine does; nothing beats."""
    return run_lock.acquire(run_lock.lock_url(place), place.url, machine=machine, **keywords)


def on_disk(place: Destination) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(filesystems.read_bytes(run_lock.lock_url(place)))
    return values


def is_ours(place: Destination) -> bool:
    holder = run_lock.read_holder(place)
    return holder is not None and holder.token != "x" and holder.pid == os.getpid()
