"""Running the real ``tonearm`` command, and reading what it wrote."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

# For tests that share the cores. Ray gives its workers a niceness of 15: beside a busy process they get a thirtieth of
# a core. OpenMP's threads spin while they wait for each other: a third of the processor time of a small training. Of
# the workers that each node starts beforehand a short run needs half.
SIDE_BY_SIDE = {
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}
# What differs between two runs over the same tracks, by its nature.
VOLATILE = ("run_id", "term")


def environment(**extra: str) -> dict[str, str]:
    """Return the environment for a command of its own Ray, with a short temporary folder (sockets have 107 bytes)."""
    folder = tempfile.mkdtemp(prefix="ta-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "RAY_TMPDIR": folder, "HF_HUB_OFFLINE": "1", "COLUMNS": "160", **extra}


def tonearm(
    *arguments: str | Path, timeout_s: float = 600, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run ``tonearm ARGUMENTS`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tonearm", *map(str, arguments)],
        env=environment(**extra),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def start_tonearm(*arguments: str | Path, **extra: str) -> subprocess.Popen[str]:
    """Start ``tonearm ARGUMENTS`` and return at once."""
    return subprocess.Popen(
        [sys.executable, "-m", "tonearm", *map(str, arguments)],
        env=environment(PYTHONFAULTHANDLER="1", **extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(
    condition: Callable[[], bool],
    *,
    timeout_s: float = 300,
    what: str = "the condition",
    run: subprocess.Popen[str] | None = None,
) -> None:
    """Return as soon as ``condition()`` holds.

    Args:
        run: What ``start_tonearm`` returned, where the condition is of its making: once it has ended there is nothing
            to wait for, and where it hangs the message says in which lines.
    """
    ends = time.monotonic() + timeout_s
    while True:
        asked = time.monotonic()
        if condition():
            return
        if run is not None and run.poll() is not None and not condition():
            raise AssertionError(f"the run ended with {run.returncode} before {what}: {said_by(run)}")
        now = time.monotonic()
        if now > ends:
            if run is not None:
                run.send_signal(signal.SIGABRT)  # it runs with PYTHONFAULTHANDLER
            hangs = "" if run is None else f": {said_by(run)}"
            raise AssertionError(f"{what} did not come true within {timeout_s:g} s{hangs}")
        # A condition that is dear to ask, over all processes say, is asked less often.
        time.sleep(max(0.02, 3 * (now - asked)))


def said_by(run: subprocess.Popen[str]) -> str:
    """Return the end of what a run that is over said."""
    try:
        _, errors = run.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        run.kill()
        _, errors = run.communicate()
    return errors[-6000:]


def read_tracks(out: str | Path, *, drop: Sequence[str] = VOLATILE) -> pa.Table:
    """Return ``tracks/`` sorted by key, without the columns that differ between runs."""
    table = pq.read_table(Path(out) / "tracks")
    return table.drop_columns([name for name in drop if name in table.column_names]).sort_by("track_key")


def finished_files(out: str | Path) -> list[Path]:
    """Return the checkpoint marks of finished files."""
    return [path for path in Path(out).glob("_checkpoint/*/*.parquet") if not path.name.endswith(".pending.parquet")]


class PeakMemory(threading.Thread):
    """Notes the largest resident set of each process below ``pid`` until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.ended = threading.Event()
        self.peaks: dict[str, int] = {}

    def run(self) -> None:
        while not self.ended.wait(0.1):
            try:
                family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
            except psutil.Error:
                return
            for process in family:
                try:
                    name = f"{process.pid} {' '.join(process.cmdline())[:300]}"
                    self.peaks[name] = max(self.peaks.get(name, 0), process.memory_info().rss)
                except psutil.Error:
                    continue
