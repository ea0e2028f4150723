"""The lanes of the suite: what runs on every save, before a commit, and in CI.

A test under ``tests/unit`` is *fast*: it starts no process, no server and no Ray, and ``make test-fast`` runs it. One
that must start something there is marked ``processes``. Python's audit events hold fast tests to that; spawning by
multiprocessing raises none.

*Slow* tests take minutes; CI runs every one of them, and prints what each shows and how long it took.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

UNIT = Path(__file__).parent / "unit"
# What starting a process or a server comes down to.
START_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "socket.bind"}
NOT_FAST = ("processes", "slow")
SHOWS = "shows"
# Modules by how long they take, the longest first: side by side, the last one to begin decides when all are done.
LONGEST_MODULES = (
    *("test_cluster_faults", "test_jobs", "test_store_faults", "test_train", "test_kill", "test_kill_training"),
    *("test_real_recordings", "test_score_parity", "test_s3", "test_old_destinations", "test_tag_command"),
    *("test_serve_ray", "test_real_training", "test_ceph", "test_long_track", "test_train_s3", "test_full_disk"),
    *(
        "test_publish",
        "test_serve",
        "test_int8_run",
        "test_readers",
        "test_serve_deploy",
        "test_plan_verb",
        "test_page",
    ),
    *("test_demo", "test_loop", "test_decode_parity", "test_training_parity", "test_schedules"),
    *("test_openvino_form", "test_demo_models"),
)

_running: list[str] = []


def mark_lanes(items: list[pytest.Item]) -> None:
    """Mark the tests that are fast, and note what each slow one shows.

    Raises:
        pytest.UsageError: a slow test does not say what it shows.
    """
    for item in items:
        if UNIT in item.path.parents and not any(item.get_closest_marker(name) for name in NOT_FAST):
            item.add_marker("fast")
        if item.get_closest_marker("slow") is not None:
            item.user_properties.append((SHOWS, _shows(item)))


def _shows(item: pytest.Item) -> str:
    says = (getattr(getattr(item, "function", None), "__doc__", None) or "").strip().splitlines()
    if not says:
        raise pytest.UsageError(f"{item.nodeid} is slow and does not say what it shows; give it a docstring")
    return says[0]


def longest_first(items: list[pytest.Item]) -> None:
    """Order the modules so that the longest begin first; tests of one module stay together, in their order."""
    place = {name: number for number, name in enumerate(LONGEST_MODULES)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def list_slow_proofs(reporter: pytest.TerminalReporter) -> None:
    """Print a line for each slow proof that ran: how long it took, how it ended, and what it shows."""
    seconds: dict[str, float] = {}
    shows: dict[str, str] = {}
    endings: dict[str, str] = {}
    for ending in ("passed", "failed", "error", "skipped", ""):  # without a word: set-up and tear-down that went well
        for report in reporter.stats.get(ending, ()):
            if (says := dict(getattr(report, "user_properties", ())).get(SHOWS)) is None:
                continue
            shows[report.nodeid] = str(says)
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
            if ending and endings.get(report.nodeid) in (None, "passed"):
                endings[report.nodeid] = ending
    if not shows:
        return
    reporter.section("slow proofs: what each shows, and how long it took")
    for name in sorted(shows):
        reporter.line(f"{seconds[name]:7.1f} s  {endings.get(name, 'not run'):7}  {name}")
        reporter.line(f"                    {shows[name]}")
    reporter.line(f"{sum(seconds.values()):7.1f} s in {len(shows)} slow proofs, side by side")


@contextlib.contextmanager
def kept_in_lane(item: pytest.Item) -> Iterator[None]:
    """Have a fast test fail that starts something, while it runs."""
    if item.get_closest_marker("fast") is None:
        yield
        return
    _hook()
    _running.append(item.nodeid)
    try:
        yield
    finally:
        _running.pop()


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if _running and event in START_EVENTS:
        raise RuntimeError(
            f"{_running[-1]} is a fast test and may start nothing, but {event}{arguments[:1]} was called; mark it "
            "`processes`, or test the part that starts nothing"
        )


def _hook(installed: list[bool] = []) -> None:  # noqa: B006  an audit hook cannot be removed
    if not installed:
        sys.addaudithook(_refuse)
        installed.append(True)
