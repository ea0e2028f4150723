"""A local Ray that does not come up in time."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from tonearm.distributed.cluster import local_ray, session
from tonearm.errors import ClusterError

pytestmark = pytest.mark.processes

LATE = "The current node timed out during startup. This could happen because some of the raylet failed to startup."


class LateRay:
    """Stands for ``ray.init`` on a busy machine: what it started so far goes on running when it gives up."""

    def __init__(self, late: int) -> None:
        self.late = late
        self.left: list[int] = []

    def __call__(self, **_: object) -> None:
        if len(self.left) < self.late:
            self.left.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
            raise Exception(LATE)


def test_a_ray_that_is_late_once_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    late = LateRay(1)
    monkeypatch.setattr("ray.init", late)
    local_ray.start(2)
    assert not any(psutil.pid_exists(pid) for pid in late.left), "what the first start left behind"


def test_a_machine_with_too_much_to_do_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    late = LateRay(9)
    monkeypatch.setattr("ray.init", late)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(ClusterError, match="within 30 s, 2 times; the machine has too much to do"),
        session.session(None),
    ):
        pass
    assert len(late.left) == 2
    assert not any(psutil.pid_exists(pid) for pid in late.left)


def test_another_fault_of_the_start_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail(**_: object) -> None:
        calls.append(1)
        raise RuntimeError("no room for sockets")

    monkeypatch.setattr("ray.init", fail)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match="no room for sockets"), session.session(None):
        pass
    assert len(calls) == 1
