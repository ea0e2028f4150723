"""What an operator sees: Prometheus metrics and one JSON line per request.

A server of one process keeps its counters to itself. On Ray Serve, decoders and heads are processes of their own. They
share their counters through files, as prometheus_client's multiprocess mode does it, so that /metrics shows all of its
machine.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tonearm.web.instruments import Metrics

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# What prometheus_client calls the files of one process, and more than the figures below ever take.
FILES, FILE_BYTES = ("counter_{}.db", "histogram_{}.db", "gauge_livesum_{}.db"), 2**19


def share(folder: Path) -> None:
    """Have this process share its figures with the others of its machine through files in ``folder``.

    Where there is no room for them, its figures stay its own. To be called before the first use of ``metrics``:
    prometheus_client looks for the folder when it is imported.
    """
    paths = [folder / name.format(os.getpid()) for name in FILES]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            raise PermissionError(f"{folder} is not a private folder of this user")
        for path in paths:
            # The files are mapped. Blocks that the disk had no room for would end the process when they are written.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if os.fstat(descriptor).st_size < FILE_BYTES:
                    os.posix_fallocate(descriptor, 0, FILE_BYTES)
            finally:
                os.close(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            for path in paths:
                path.unlink(missing_ok=True)
        os.environ.pop(FOLDER_VARIABLE, None)
        logging.getLogger("tonearm").warning("figures of process %d are not in /metrics: %s", os.getpid(), error)
        return
    os.environ[FOLDER_VARIABLE] = str(folder)


def keep() -> None:
    """Have this process keep its figures to itself, whatever the environment is set for.

    To be called before the first use of ``metrics``.
    """
    os.environ.pop(FOLDER_VARIABLE, None)


@functools.cache
def metrics() -> Metrics:
    """Return this process's instruments, made once."""
    # prometheus_client looks for the folder when it is imported.
    from tonearm.web.instruments import Metrics

    return Metrics()


class AccessLog:
    """One JSON line per request: what was asked and answered, by whom, how long it took; never audio, never a key."""

    def __init__(self, path: str | None) -> None:
        # A pipe that nobody reads, or that is full, must not hold requests up.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        self.descriptor = os.open(path, flags, 0o640) if path else None

    def write(self, **facts: Any) -> None:
        """Write one line; it is dropped where it cannot be written."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 10**6 % 1000:03d}Z"
        line = json.dumps({"time": stamp, **{name: value for name, value in facts.items() if value is not None}})
        try:
            if self.descriptor is None:
                print(line, flush=True)
            else:
                os.write(self.descriptor, line.encode() + b"\n")
        except OSError:
            # Said by a figure alone: standard error may be the same pipe, which would hold all requests up.
            metrics().lost_lines.inc()
