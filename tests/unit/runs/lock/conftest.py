"""Destinations to lock, and a clock that stands still unless somebody waits."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.runs.lock.locks import FakeClock
from tonearm.runs.destination import Destination
from tonearm.runs.lock import run_lock
from tonearm.storage import filesystems


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination.of(str(tmp_path / "out"))


@pytest.fixture
def memory() -> Iterator[Destination]:
    """A destination that is no local one, so that claims are split as on an object store."""
    destination = Destination.of(f"memory://{os.getpid()}-{time.monotonic_ns()}/out")
    yield destination
    place = filesystems.locate(destination.url)
    with contextlib.suppress(FileNotFoundError):
        place.store.rm(place.path, recursive=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(run_lock, "CLOCK", fake)
    return fake
