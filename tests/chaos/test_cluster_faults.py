"""A cluster that loses a process, a node, its driver or everything: the table becomes the undisturbed one all the same.

When it happens is drawn from a seed: after so many finished files.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from tests import one_process
from tests.chaos.test_kill import assert_same
from tests.commands import finished_files, read_tracks, start_tonearm, tonearm, wait_for
from tests.rays import Nodes, nodes

pytestmark = pytest.mark.slow

SEED = 7
NUM_TRACKS = 28


class Job:
    """One run on a cluster, and what it has finished so far."""

    def __init__(self, cluster: Nodes, library: Path, settings: Path, out: Path, seed: int) -> None:
        self.cluster, self.out = cluster, out
        self.random = random.Random(seed)
        self.arguments = ["tag", library, "--out", out, "--demo-models", "--config", settings]
        self.environment = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"}
        self.process: subprocess.Popen[str] = start_tonearm(*self.arguments, **self.environment)

    def wait_for_the_moment(self) -> None:
        """Return once a seeded number of files is finished, fewer than half."""
        moment = self.random.randrange(1, NUM_TRACKS // 4)
        over = self.process.poll
        wait_for(lambda: len(finished_files(self.out)) >= moment or over() is not None, what=f"{moment} finished files")
        assert over() is None, "the run was over before anything could happen to it"

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and what was said."""
        _, errors = self.process.communicate(timeout=600)
        assert "Traceback" not in errors, errors
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Nodes]:
    """One cluster for what leaves it as it was; the last of these takes a node away and adds another."""
    with nodes() as running:
        yield running


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    """A cluster; one of its own for what breaks it, as the mark `breaks` says."""
    if request.node.get_closest_marker("breaks") is None:
        yield request.getfixturevalue("shared_cluster")
        return
    with nodes() as running:
        yield running


@pytest.fixture
def job(cluster: Nodes, library: Path, settings: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Job]:
    seed = SEED + sum(request.node.name.encode())
    running = Job(cluster, library, settings, tmp_path / "out", seed)
    yield running
    running.process.kill()
    running.process.communicate()


def kill_one(job: Job, title: str) -> None:
    found: list[psutil.Process] = []

    def at_work() -> bool:
        found[:] = job.cluster.processes(title)
        return bool(found) or job.process.poll() is not None

    wait_for(at_work, what=f"a process named {title}")
    assert found, f"the run was over before there was a {title}"
    job.random.choice(found).kill()


def test_killed_processes_are_replaced(job: Job, undisturbed: pa.Table) -> None:
    """A decoder child, a decoding worker and a scoring actor that are killed, one after the other, cost no row."""
    kill_one(job, "tonearm.audio.sandbox_child")
    kill_one(job, "decode_tracks")
    job.wait_for_the_moment()
    kill_one(job, "ScoreTracks")
    status, errors = job.end()
    assert status == 0, errors
    assert_same(read_tracks(job.out), undisturbed)


def test_a_killed_driver(job: Job, undisturbed: pa.Table) -> None:
    """A driver that is killed leaves rows that the next run adds to, and `status` says so."""
    job.wait_for_the_moment()
    os.kill(job.process.pid, signal.SIGKILL)
    job.process.communicate()
    status = one_process.tonearm("status", job.out)
    assert "was killed; run the same command to resume" in status.stdout
    again = tonearm(*job.arguments, **job.environment)
    assert again.returncode == 0, again.stderr
    assert "done before" in again.stderr
    assert_same(read_tracks(job.out), undisturbed)


def test_a_lost_node_that_is_replaced(job: Job, undisturbed: pa.Table) -> None:
    """A node that goes and another that comes cost no row."""
    job.wait_for_the_moment()
    job.cluster.kill_node(job.random.choice(job.cluster.workers))
    job.cluster.add()
    status, errors = job.end()
    assert status == 0, errors
    assert_same(read_tracks(job.out), undisturbed)


@pytest.mark.breaks
def test_a_lost_node(job: Job, library: Path, settings: Path, undisturbed: pa.Table) -> None:
    """What is left of the cluster goes on, or the run says that it cannot and the next one does."""
    job.wait_for_the_moment()
    job.cluster.kill_node(job.random.choice(job.cluster.workers))
    status, errors = job.end()
    if status != 0:
        assert status == 4 and "Run the same command" in errors, errors
        again = tonearm(*job.arguments, **job.environment)
        assert again.returncode == 0, again.stderr
    assert_same(read_tracks(job.out), undisturbed)


@pytest.mark.breaks
def test_the_whole_cluster_is_gone(job: Job, undisturbed: pa.Table) -> None:
    """A run whose cluster vanishes ends with one line, and resumes without any cluster."""
    job.wait_for_the_moment()
    job.cluster.kill_all()
    status, errors = job.end()
    assert status == 4, errors
    assert "has been gone for 10 s" in errors.splitlines()[-1], "cluster.head_timeout_s of the settings"
    assert "same command" in errors.splitlines()[-1]
    local = one_process.tonearm(*job.arguments)  # anywhere: here without any cluster
    assert local.returncode == 0, local.stderr
    assert_same(read_tracks(job.out), undisturbed)


ASKING = """
import pathlib, sys, threading
from tonearm.distributed.cluster import session
from tonearm.distributed.tagging.counters import start_counters
from tonearm.distributed.tagging.watch import RayHeadGuard, RunFailure, explain_failures, report_progress
from tonearm.errors import Stopped

class Watcher:
    def progress(self, counts): pass

class Asks:
    def look(self, counts):
        while True:
            session.node_resources()
            pathlib.Path(sys.argv[1]).touch()

with session.session(None):
    counters = start_counters()
    failure = RunFailure(counters)
    try:
        head = RayHeadGuard(failure, "DEST", 5.0)
        with explain_failures("DEST", failure), report_progress(counters, Watcher(), [Asks()], head):
            threading.Event().wait(200)
    except Stopped as stopped:
        said = stopped.message
print(said)
"""


@pytest.mark.breaks
def test_a_lost_ray_head_is_noticed_while_a_call_to_it_is_unanswered(cluster: Nodes, tmp_path: Path) -> None:
    """A run says that its head is gone even while a question to that head is unanswered."""
    environment = os.environ | {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"}
    up = tmp_path / "up"
    driver = subprocess.Popen([sys.executable, "-c", ASKING, up], stdout=subprocess.PIPE, text=True, env=environment)
    wait_for(lambda: up.exists() or driver.poll() is not None, what="a driver that asks")
    cluster.kill_all()
    said, _ = driver.communicate(timeout=100)
    assert "the head of the cluster" in said and "Run the same command" in said
    assert driver.returncode == 0


def test_a_run_waits_for_a_cluster_that_grows(
    library: Path, settings: Path, tmp_path: Path, undisturbed: pa.Table
) -> None:
    """A head alone, as an autoscaled cluster begins: refused at once, unless the environment says that it grows."""
    with nodes(num_workers=0) as cluster:
        arguments = ["tag", library, "--out", tmp_path / "out", "--demo-models", "--config", settings]
        own = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"}
        refused = tonearm(*arguments, **own)
        assert refused.returncode == 2 and "does not fit" in refused.stderr, refused.stderr
        process = start_tonearm(*arguments, **own, TONEARM_WAIT_FOR_WORKERS_S="120")
        try:
            progress = tmp_path / "out" / "_checkpoint" / "progress.json"
            wait_for(lambda: progress.exists() and "tagging" in progress.read_text(), what="the run to ask for workers")
            assert process.poll() is None
            cluster.add()
            _, errors = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert_same(read_tracks(tmp_path / "out"), undisturbed)
