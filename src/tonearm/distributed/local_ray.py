"""A Ray of one's own on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from typing import Any

import psutil

# Ray gives its node half a minute, which no setting changes. On a busy machine, or the first time after an
# installation, that may be too short, so it is tried so often.
RAY_STARTS_IN_S, STARTS = 30, 2


def start(num_cpus: int, *, verbose: bool = False) -> None:
    """Start a Ray of this process with so many logical CPUs, and join it.

    Raises:
        TimeoutError: it did not come up.
    """
    import ray

    memory = psutil.virtual_memory().available
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else memory
    # Decoded audio is 32 kB a second, so 2 GiB holds 18 hours in flight; more only delays back-pressure.
    store = int(max(100 * 2**20, min(2 * 2**30, memory * 0.25, shared * 0.8)))
    for _ in range(STARTS):
        before = set(psutil.Process().children(recursive=True))
        try:
            ray.init(
                address="local",
                job_config=job_config(),
                num_cpus=num_cpus,
                object_store_memory=store,
                include_dashboard=False,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
                configure_logging=True,
            )
            return
        except Exception as error:  # Ray has no class of its own for a start that took too long
            if "timed out during startup" not in str(error):
                raise
            _end_all_but(before)
    raise TimeoutError(f"it did not come up within {RAY_STARTS_IN_S} s, {STARTS} times; the machine has too much to do")


def job_config() -> Any:
    """Return what a job of tonearm tells Ray of itself: that its folder is no place for its workers' modules.

    Ray would put the driver's current folder on their path, and import whatever is called ``numpy.py`` there.
    """
    from ray.job_config import JobConfig

    class WithoutFolder(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    return WithoutFolder()


def _end_all_but(before: set[psutil.Process]) -> None:
    """End the processes below this one that were not there before."""
    left = [child for child in psutil.Process().children(recursive=True) if child not in before]
    for child in left:
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(left, timeout=10)
