"""A local Ray on this machine, started and ended by this process."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator

import psutil
import ray
from ray.job_config import JobConfig

from tonearm import own_process, surroundings
from tonearm.distributed.cluster import fewer_processes
from tonearm.errors import ClusterError

# Ray gives its node half a minute to start, and no setting changes that. It may be too short on a busy machine or the
# first time after an installation, so a start is tried this often.
RAY_STARTS_IN_S, STARTS = 30, 2
# The path of a Unix socket has at most this many bytes, and the longest of Ray's has this form below its folder.
SOCKET_BYTES = 107
LONGEST_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
PREFIX = "tonearm-"
# Its logs, and the object store where /dev/shm is small.
ROOM_BYTES = 256 * 2**20


def start(num_cpus: int, *, verbose: bool = False) -> None:
    """Start a local Ray with ``num_cpus`` logical CPUs, and join it; ``stop`` ends it.

    Raises:
        ClusterError: no folder is fit for its sockets and logs.
        TimeoutError: it did not come up.
    """
    memory = psutil.virtual_memory().available
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else memory
    # Decoded audio is 32 kB a second, so 2 GiB holds 18 hours in flight; more only delays back-pressure.
    store = int(max(100 * 2**20, min(2 * 2**30, memory * 0.25, shared * 0.8)))
    _make_token()
    folder = make_folder()
    _folders[folder] = os.getpid()
    for _ in range(STARTS):
        before = set(psutil.Process().children(recursive=True))
        try:
            with fewer_processes.node_alone(verbose=verbose):
                ray.init(
                    address="local",
                    job_config=job_config(),
                    num_cpus=num_cpus,
                    object_store_memory=store,
                    include_dashboard=False,
                    log_to_driver=verbose,
                    logging_level=logging.INFO if verbose else logging.ERROR,
                    configure_logging=True,
                    _temp_dir=folder,
                )
            return
        # Ray has no class for a start that took too long, only this text.
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            # ``ray.init`` leaves what it had started so far running.
            _end_all_but(before)
    raise TimeoutError(f"it did not come up within {RAY_STARTS_IN_S} s, {STARTS} times; the machine has too much to do")


# Those of Rays that were started, and by which process.
_folders: dict[str, int] = {}


@atexit.register
def stop() -> None:
    """End the Ray of this process, where there is one, and remove its folder."""
    # A forked child has the dictionary too, but its parent's Ray is not the child's to end.
    started = [folder for folder, pid in _folders.items() if pid == os.getpid()]
    if not started:
        return
    ray.shutdown()
    for folder in started:
        del _folders[folder]
        shutil.rmtree(folder, ignore_errors=True)


def make_folder() -> str:
    """Return a new folder for Ray's sockets and logs that only this user can enter.

    Below ``RAY_TMPDIR`` where that is set; else where temporary files go, or in another place that all systems have
    where that one is too long for sockets, full or not to be written.

    Raises:
        ClusterError: ``RAY_TMPDIR`` cannot be used, or no place can.
    """
    if asked := os.environ.get("RAY_TMPDIR"):
        longest = SOCKET_BYTES - len(_below(""))
        if len(os.fsencode(os.path.abspath(asked))) > longest:
            raise ClusterError(
                f"got a RAY_TMPDIR of {len(os.fsencode(os.path.abspath(asked)))} bytes, expected at most {longest}, as "
                "the paths of sockets are short; give a shorter one"
            )
        try:
            os.makedirs(asked, exist_ok=True)
            return tempfile.mkdtemp(prefix=PREFIX, dir=os.path.abspath(asked))
        except OSError as error:
            reason = error.strerror or str(error)
            raise ClusterError(f"RAY_TMPDIR={asked} cannot be written ({reason}); give another or none") from None
    places = [place for place in _places() if len(os.fsencode(_below(place))) <= SOCKET_BYTES]
    # Those with enough room in their order; where none has enough, the one with most room first.
    places.sort(key=lambda place: min(_free_bytes(place), ROOM_BYTES), reverse=True)
    for place in places:
        with contextlib.suppress(OSError):
            return tempfile.mkdtemp(prefix=PREFIX, dir=place)
    raise ClusterError("Ray needs a folder with a short path that can be written, such as /tmp; give one in RAY_TMPDIR")


def _make_token() -> None:
    """Give this process's Ray a token that only this user can read."""
    # Ray itself would write one token for all later Rays into the home folder, which may be read-only, and with the
    # default rights of files there: anyone who can read it can run code as this user.
    is_asked = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if is_asked or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    path = os.path.join(surroundings.until_the_end("tonearm-token-"), "token")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    # Ray keeps the first that a process has read, so that a second Ray of the process has the same.
    os.environ["RAY_AUTH_TOKEN_PATH"] = path


def _places() -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):  # there is none
        yield os.path.abspath(tempfile.gettempdir())
    yield from ("/tmp", "/var/tmp", "/dev/shm")


def _below(place: str) -> str:
    return f"{place}/{PREFIX}{'x' * 8}{LONGEST_SOCKET}"


def _free_bytes(place: str) -> int:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0


def job_config() -> JobConfig:
    """Return the configuration of a job of tonearm: where its workers find modules."""

    # Ray always puts the driver's current folder first on the search path, and would import a ``numpy.py`` there. The
    # folder is given only where the driver itself imports from it, as a user's program that uses tonearm may.

    class WithoutFolder(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    return WithoutFolder(_py_driver_sys_path=[here] if (here := own_process.imported_folder()) else [])


def _end_all_but(before: set[psutil.Process]) -> None:
    """End the processes below this one that were not there before."""
    left = [child for child in psutil.Process().children(recursive=True) if child not in before]
    for child in left:
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(left, timeout=10)
