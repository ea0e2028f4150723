"""How a run is cut into executions, and how one that a shrunken cluster cannot finish is ended."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from unittest import mock

import pytest

from tonearm.distributed.cluster import session
from tonearm.distributed.run_failures import KeptFailure
from tonearm.distributed.tagging.run import executions
from tonearm.distributed.tagging.watch import (
    WAKE,
    ClusterGuard,
    RayHeadGuard,
    explain_failures,
    interrupt_main_thread,
    interruptible,
)
from tonearm.errors import DestinationError, Stopped, TonearmError
from tonearm.planning.layout import Layout
from tonearm.runs.resume import TodoPart


def test_executions_are_whole_parts_of_at_least_so_many_tracks() -> None:
    parts = [TodoPart(f"p{number}", count) for number, count in enumerate([50, 50, 50, 10, 120, 5])]
    assert [[part.url for part in some] for some in executions(parts, 100)] == [
        ["p0", "p1"],
        ["p2", "p3", "p4"],
        ["p5"],
    ]
    assert list(executions([], 100)) == []


def test_a_leg_has_one_set_of_heads() -> None:
    fresh, tags = [TodoPart("a", 1), TodoPart("b", 1)], TodoPart("c", 1, ("tags",), again=0)
    both = TodoPart("d", 1, ("genre", "tags"), again=1)
    assert list(executions([*fresh, tags, both], 100)) == [fresh, [tags], [both]]


LOCAL = Layout(num_scorers=2, scorer_cpus=0.9, scorer_gpus=0.0, scorer_threads=1, num_cpus=4, is_local=False)


def test_a_run_that_ignores_ctrl_c_is_woken_all_the_same() -> None:
    """As one that a script started in the background does."""
    own, other = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(WAKE)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            threading.Timer(0.1, interrupt_main_thread).start()
            threading.Event().wait(20)
    finally:
        signal.signal(signal.SIGINT, own)
    assert signal.getsignal(WAKE) == other


def test_sigterm_ends_a_run_as_ctrl_c_does_although_ray_has_taken_it() -> None:
    """Ray's own handler would be left by ``sys.exit``: no line, and no exit status that says resumable."""
    own = signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
    ray_s = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == ray_s
    finally:
        signal.signal(signal.SIGTERM, own)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


class Failures:
    """What a guard ends a run with."""

    def __init__(self) -> None:
        self.failure: TonearmError | None = None

    def fail(self, failure: TonearmError, *, wake: bool = False) -> None:
        assert wake, "no task may start any more that could raise it"
        self.failure = failure


def test_a_run_without_its_head_ends_after_the_time_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, failures, is_up = Clock(monkeypatch), Failures(), [True]

    def connect(*_: object, **__: object) -> socket.socket:
        if not is_up[0]:
            raise ConnectionRefusedError
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(session, "ray_head_address", lambda: ("10.0.0.1", 6379))
    guard = RayHeadGuard(failures, "DEST", 12.0)  # type: ignore[arg-type]
    for is_up[0], seconds in ((True, 100.0), (False, 11.9), (True, 1.0), (False, 11.9)):
        guard.look()
        clock.now += seconds
        guard.look()
        assert failures.failure is None
    clock.now += 0.1
    guard.look()
    assert failures.failure is not None
    assert "the head of the cluster at 10.0.0.1:6379 has been gone for 12 s" in failures.failure.message
    assert "what is written in DEST stays" in failures.failure.message


@pytest.mark.parametrize(("grows_s", "patience_s"), [(None, 30.0), ("20", 30.0), ("90", 90.0)])
def test_a_shrunken_cluster_is_given_the_time_of_the_settings(
    grows_s: str | None, patience_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no less than a cluster that grows by itself needs to grow."""
    if grows_s:
        monkeypatch.setenv("TONEARM_WAIT_FOR_WORKERS_S", grows_s)
    else:
        monkeypatch.delenv("TONEARM_WAIT_FOR_WORKERS_S", raising=False)
    clock, failures = Clock(monkeypatch), Failures()
    nodes: list[dict[str, float]] = [{}]
    monkeypatch.setattr(session, "node_resources", lambda: nodes)
    guard = ClusterGuard(failures, LOCAL, 30.0)  # type: ignore[arg-type]
    guard.look(None)
    clock.now += patience_s - 0.1
    guard.look(None)
    assert failures.failure is None
    nodes[:] = [{"CPU": 2.0}, {"CPU": 2.0}]  # another node has come
    guard.look(None)
    nodes[:] = [{}]
    guard.look(None)
    clock.now += patience_s - 0.1
    guard.look(None)
    assert failures.failure is None, "the time counts anew"
    clock.now += 0.1
    guard.look(None)
    assert failures.failure is not None
    assert "the cluster has shrunk, and no node is left that can score" in failures.failure.message


def test_a_run_that_broke_off_names_the_error_and_not_rays_advice() -> None:
    """Ray adds its own settings to the message of whatever a worker raised."""
    from ray.data._internal.util import _annotate_exception_with_retry_context

    error = _annotate_exception_with_retry_context(
        AttributeError("type object 'tqdm' has no attribute '_lock'"),
        description="map a block",
        attempts=1,
        max_attempts=1,
        total_backoff_s=0.0,
        exception_str="",
    )
    said = "broke off: AttributeError: type object 'tqdm' has no attribute '_lock'; the"
    with pytest.raises(Stopped, match=said), explain_failures("DEST", mock.Mock(read=lambda: None)):
        raise error


def test_what_was_told_first_is_why_a_run_ends() -> None:
    """A guard stops the run; what its workers then die of is a consequence."""
    kept = KeptFailure()
    assert kept.read_failure() is None
    kept.fail(Stopped("the store gives nothing"))
    kept.fail(DestinationError("a file cannot be written"))
    assert str(kept.read_failure()) == "the store gives nothing"
