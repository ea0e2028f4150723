"""A Ray cluster of several nodes on this machine, each with its own raylet, and the processes on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import psutil

from tests.commands import SIDE_BY_SIDE, wait_for

STORE_BYTES = 150 * 2**20
# Two dashboards side by side would ask for the same port, and nothing reads what the monitors would tell.
LEAN = {"include_dashboard": False, "no_monitor": True, "include_log_monitor": False}


class Nodes:
    """A head, by default without CPUs, and some workers of two each, as ``ray.cluster_utils`` starts them."""

    def __init__(self, folder: str, num_workers: int, head_cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": head_cpus,
                "object_store_memory": STORE_BYTES,
                **LEAN,
            },
        )
        self.workers = [self.add() for _ in range(num_workers)]
        self.cluster.wait_for_nodes()

    @property
    def address(self) -> str:
        """What ``RAY_ADDRESS`` must be."""
        return str(self.cluster.address)

    def add(self) -> Any:
        """Start one more worker."""
        return self.cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES, include_log_monitor=False)

    def kill_node(self, node: Any) -> None:
        """Kill a node's raylet and all that runs on it, as a lost machine does."""
        self.cluster.remove_node(node, allow_graceful=False)

    def processes(self, title: str) -> list[psutil.Process]:
        """Return the processes of this cluster whose command line holds ``title``."""
        return [process for process in processes_under(self.folder) if title in " ".join(cmdline(process))]

    def kill_all(self) -> None:
        """Kill everything, the head included, with no time to say goodbye."""
        kill_under(self.folder)


def cmdline(process: psutil.Process) -> list[str]:
    """Return a process's words; none where it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def processes_under(folder: str) -> list[psutil.Process]:
    """Return the processes of a Ray whose temporary folder this is: raylets, their workers, and those' children."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if folder in " ".join(process.cmdline()) or folder in process.environ().get("RAY_TMPDIR", ""):
                found[process.pid] = process
                found |= {child.pid: child for child in process.children(recursive=True)}
        except psutil.Error:
            continue
    return list(found.values())


def kill_under(folder: str) -> None:
    """Kill what ``processes_under`` finds, and return once it is gone."""

    def killed() -> bool:
        found = processes_under(folder)
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return not found

    wait_for(killed, what=f"the end of every process of {folder}")


@contextlib.contextmanager
def nodes(num_workers: int = 2, head_cpus: int = 0, **environment: str) -> Iterator[Nodes]:
    """Run a cluster until the block ends."""
    folder = tempfile.mkdtemp(prefix="tr-", dir="/tmp")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    # Workers inherit what the raylets were started with.
    settings = {
        "RAY_TMPDIR": folder,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    try:
        with mock.patch.dict(os.environ, kept | SIDE_BY_SIDE | settings | environment, clear=True):
            running = Nodes(folder, num_workers, head_cpus)
        yield running
    finally:
        kill_under(folder)
        shutil.rmtree(folder, ignore_errors=True)
