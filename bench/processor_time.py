"""The processor time of other processes, and of all below one."""

from __future__ import annotations

import sys
import threading
import time

import psutil

# Linux' clock of all that a process has computed, by its number: sched_clock of clock_getcpuclockid(3).
SCHEDULED = 2
KINDS = (
    ("sandbox_child", "decoders' children"),
    ("_Totals", "counters"),
    ("MapWorker", "scoring actor"),
    *((f"ray::{name}", "Ray's own") for name in ("DashboardAgent", "RuntimeEnvAgent", "_", "ActorLocationTracker")),
    ("ray::", "tasks: decode, write, re-block"),
    ("raylet", "Ray's own"),
    ("gcs_server", "Ray's own"),
    ("/ray/", "Ray's own"),
)
TASKS, ACTOR, DRIVER = "tasks: decode, write, re-block", "scoring actor", "driver"


def processor_s(pid: int) -> float:
    """Return the processor time of a process so far, all its threads together, in seconds.

    Raises:
        OSError: there is no such process.
    """
    if sys.platform == "linux":
        return time.clock_gettime((~pid << 3) | SCHEDULED)
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


class ProcessorTime(threading.Thread):
    """Adds up the processor time of a process and all below it, by what they are.

    Args:
        root: the driver's; by default this process.
        every_s: a process that ends is counted up to the last look at it.
    """

    def __init__(self, root: int | None = None, every_s: float = 0.5) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(root)
        self.every_s = every_s
        self.ended = threading.Event()
        self.seconds: dict[int, float] = {}
        self.kinds: dict[int, str] = {}

    def run(self) -> None:
        """Look at all of them until ``ended`` is set."""
        while not self.ended.wait(self.every_s):
            self.look()

    def look(self) -> None:
        """Note what each of them has taken by now."""
        try:
            processes = [self.root, *self.root.children(recursive=True)]
        except psutil.Error:
            return
        for process in processes:
            try:
                seconds, line = processor_s(process.pid), " ".join(process.cmdline())
            except (psutil.Error, OSError):
                continue
            self.seconds[process.pid] = seconds
            # A worker that once was an actor stays one in this account; between tasks its name is IDLE, and one that
            # is ending has none.
            if self.kinds.get(process.pid) != ACTOR and (line or process.pid not in self.kinds):
                self.kinds[process.pid] = DRIVER if process.pid == self.root.pid else kind_of(line)

    def by_kind(self) -> dict[str, float]:
        """Return the seconds of each kind of process."""
        totals: dict[str, float] = {}
        for pid, seconds in self.seconds.items():
            totals[self.kinds[pid]] = totals.get(self.kinds[pid], 0.0) + seconds
        return dict(sorted(totals.items(), key=lambda item: -item[1]))


def kind_of(command_line: str) -> str:
    """Return what a process below the driver is, by its command line."""
    return next((kind for mark, kind in KINDS if mark in command_line), TASKS)
