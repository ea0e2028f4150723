"""Fast tests start nothing, and the slow proofs are listed with what they show."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import lanes


def _bind() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda: os.system("true"),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        _fork,
        _bind,
    ],
    ids=["subprocess", "system", "spawn", "fork", "server"],
)
def test_a_fast_test_that_starts_a_process_fails(start: Callable[[], object]) -> None:
    with pytest.raises(
        RuntimeError, match=r"test_a_fast_test_that_starts_a_process_fails.* is a fast test and may start"
    ):
        start()


@pytest.mark.processes
def test_marked_tests_may_start_processes() -> None:
    started = subprocess.run([sys.executable, "-c", "print(7)"], check=True, capture_output=True, text=True)
    assert started.stdout == "7\n"


class Reporter:
    """What pytest's own reporter offers, with the lines kept."""

    def __init__(self, **stats: list[object]) -> None:
        self.stats, self.lines = stats, []

    def section(self, title: str) -> None:
        self.lines.append(f"== {title}")

    def line(self, text: str) -> None:
        self.lines.append(text)


def report(name: str, duration: float, shows: str | None) -> SimpleNamespace:
    return SimpleNamespace(
        nodeid=name, duration=duration, user_properties=[(lanes.SHOWS, shows)] if shows is not None else []
    )


def test_slow_proofs_are_listed_with_all_their_seconds_and_how_they_ended() -> None:
    reporter = Reporter(
        passed=[report("b", 2.0, "B holds."), report("fast", 0.1, None), report("c", 1.0, "C holds.")],
        failed=[report("a", 3.0, "A holds.")],
        error=[report("c", 0.5, "C holds.")],
        skipped=[report("d", 0.0, "D holds.")],
        **{"": [report("b", 10.0, "B holds."), report("b", 0.5, "B holds.")]},
    )
    lanes.list_slow_proofs(reporter)  # type: ignore[arg-type]
    assert reporter.lines[0] == "== slow proofs: what each shows, and how long it took"
    heads = [line.split() for line in reporter.lines[1:-1:2]]
    assert heads == [
        ["3.0", "s", "failed", "a"],
        ["12.5", "s", "passed", "b"],
        ["1.5", "s", "error", "c"],
        ["0.0", "s", "skipped", "d"],
    ]
    assert [line.strip() for line in reporter.lines[2:-1:2]] == ["A holds.", "B holds.", "C holds.", "D holds."]
    assert reporter.lines[-1].split()[:5] == ["17.0", "s", "in", "4", "slow"]


def test_without_slow_proofs_there_is_no_list() -> None:
    reporter = Reporter(passed=[report("fast", 0.1, None)])
    lanes.list_slow_proofs(reporter)  # type: ignore[arg-type]
    assert reporter.lines == []


class Item:
    """A collected test, as far as lanes look at it."""

    def __init__(self, path: str, function: Callable[[], None], *markers: str) -> None:
        self.path, self.function, self.nodeid = Path(path), function, f"{path}::{function.__name__}"
        self.markers, self.user_properties = list(markers), []

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.markers else None

    def add_marker(self, name: str) -> None:
        self.markers.append(name)


def says() -> None:
    """What it shows.

    And more about it.
    """


def silent() -> None: ...


def test_what_a_test_is_marked_with_decides_its_lane() -> None:
    unit, other = str(lanes.UNIT / "test_x.py"), str(lanes.UNIT.parent / "chaos" / "test_x.py")
    items = [Item(unit, silent), Item(unit, silent, "processes"), Item(unit, says, "slow"), Item(other, silent)]
    lanes.mark_lanes(items)  # type: ignore[arg-type]
    assert [item.markers for item in items] == [["fast"], ["processes"], ["slow"], []]
    assert [item.user_properties for item in items] == [[], [], [(lanes.SHOWS, "What it shows.")], []]
    with pytest.raises(pytest.UsageError, match=r"test_x.py::silent is slow and does not say what it shows"):
        lanes.mark_lanes([Item(other, silent, "slow")])  # type: ignore[list-item]


def test_the_longest_modules_begin_first_and_tests_keep_their_order() -> None:
    names = ["test_a", lanes.LONGEST_MODULES[1], "test_a", lanes.LONGEST_MODULES[0], lanes.LONGEST_MODULES[1]]
    items = [Item(f"/t/{name}.py", silent, str(number)) for number, name in enumerate(names)]
    lanes.longest_first(items)  # type: ignore[arg-type]
    assert [item.markers for item in items] == [["3"], ["1"], ["4"], ["0"], ["2"]]


def test_the_modules_that_are_to_begin_first_exist() -> None:
    names = {path.stem for path in lanes.UNIT.parent.rglob("test_*.py")}
    assert set(lanes.LONGEST_MODULES) <= names
