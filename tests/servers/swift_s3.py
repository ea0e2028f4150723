"""A real S3 server on loopback: OpenStack Swift with its S3 layer, installed from the package index alone.

::

    python -m tests.servers.swift_s3 install        into .servers/swift-VERSION, once (79 MB)
    python -m tests.servers.swift_s3 start DIR      start under DIR, print the environment an S3 client needs
    python -m tests.servers.swift_s3 stop DIR       end exactly the processes that start wrote down in DIR

Every start takes ports that were free, so any number of servers run side by side. Wrong keys are refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

VERSION = "2.38.3"
CACHE = Path(__file__).resolve().parents[2] / ".servers"
ACCESS_KEY, SECRET_KEY = "test:tester", "testing123"
SERVERS = ("account", "container", "object", "proxy")
START_S = 180.0

SWIFT_CONF = """\
[swift-hash]
swift_hash_path_prefix = a
swift_hash_path_suffix = b
[storage-policy:0]
name = gold
default = yes
"""

# No workers: with one a parent looks after it, and both take a twentieth of a core though there is nothing to do.
DEFAULTS = """\
[DEFAULT]
swift_dir = {etc}
devices = {disk}
mount_check = false
user = {user}
bind_ip = 127.0.0.1
bind_port = {port}
log_address =
log_level = {log_level}
workers = 0
"""

STORAGE = """\
fsync_dir = false
[pipeline:main]
pipeline = {server}-server
[app:{server}-server]
use = egg:swift#{server}
mb_per_sync = 0
"""

PROXY = """\
[pipeline:main]
pipeline = catch_errors cache healthcheck proxy-logging listing_formats bulk s3api tempauth slo dlo
  versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
access_log_address =
access_log_level = INFO
[filter:cache]
paste.filter_factory = swift_cache:filter_factory
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
allow_multipart_uploads = true
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing123 .admin .reseller_admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
"""


class ServerUnavailable(Exception):
    """The server cannot be installed or started here; the message says why."""


class ServerFailed(Exception):
    """A server that is installed does not work: a failure, not a reason to skip a test."""


def install() -> Path:
    """Return the ``bin`` folder of an environment that holds Swift, made once and shared by parallel sessions.

    Raises:
        ServerUnavailable: the package index did not give it.
    """
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    folder = CACHE / f"swift-{VERSION}"
    finished = folder / ".installed"
    with (CACHE / "swift.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True, timeout=600)
                pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
                subprocess.run([*pip, f"swift=={VERSION}"], check=True, capture_output=True, text=True, timeout=900)
            except (subprocess.SubprocessError, OSError) as error:
                said = str(getattr(error, "stderr", None) or error).strip().splitlines()
                raise ServerUnavailable(
                    f"swift {VERSION} could not be installed: {said[-1] if said else error}"
                ) from None
            finished.touch()
    return folder / "bin"


def start(folder: Path, *, die_with_parent: bool = False) -> dict[str, str]:
    """Start a server under ``folder`` and return the environment variables that an S3 client needs.

    Args:
        folder: an empty folder on a disk with extended attributes; holds the objects, the logs and the process ids.
        die_with_parent: end the server when this process dies, however it dies.

    Raises:
        ServerUnavailable: it cannot be installed or run here.
        ServerFailed: it is there and does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        os.setxattr(folder, "user.tonearm", b"1")
    except OSError as error:
        raise ServerUnavailable(f"{folder} keeps no extended attributes, which swift needs ({error})") from None
    programs = install()
    for _ in range(3):  # another process may take a port between our look and the server's bind
        ports = dict(zip(SERVERS, free_ports(len(SERVERS)), strict=True))
        _configure(folder, programs, ports)
        _launch(folder, programs, die_with_parent)
        endpoint = f"http://127.0.0.1:{ports['proxy']}"
        if _wait_healthy(folder, endpoint):
            return {
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        stop(folder)
    raise ServerFailed(f"swift did not come up; see {folder / 'log'}")


def stop(folder: Path) -> None:
    """End exactly the processes that ``start`` wrote down in ``folder``."""
    pids = {int(path.read_text()): path for path in folder.glob("*.pid")}
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, sent)  # each server leads its own group
        ends = time.monotonic() + 5
        while any(_is_alive(pid) for pid in pids) and time.monotonic() < ends:
            time.sleep(0.05)
    for path in pids.values():
        path.unlink()


def free_ports(count: int) -> list[int]:
    """Return ``count`` ports on which nothing listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _configure(folder: Path, programs: Path, ports: dict[str, int]) -> None:
    etc, disk, log = folder / "etc", folder / "disk", folder / "log"
    for each in (etc, disk / "d1", log):
        each.mkdir(parents=True, exist_ok=True)
    (etc / "swift.conf").write_text(SWIFT_CONF)
    shutil.copy(Path(__file__).with_name("swift_cache.py"), etc)
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    for server, port in ports.items():
        level = "INFO" if server == "proxy" else "WARNING"
        settings = DEFAULTS.format(etc=etc, disk=disk, user=user, port=port, log_level=level)
        settings += PROXY if server == "proxy" else STORAGE.format(server=server)
        (etc / f"{server}-server.conf").write_text(settings)
    for server in SERVERS[:-1]:
        builder = [programs / "swift-ring-builder", f"{server}.builder"]
        device = f"r1z1-127.0.0.1:{ports[server]}/d1"
        (etc / f"{server}.builder").unlink(missing_ok=True)
        for action in (["create", "6", "1", "0"], ["add", device, "1"], ["rebalance"]):
            made = subprocess.run([*builder, *action], cwd=etc, capture_output=True, text=True)
            if made.returncode > 1:  # 1 is a warning
                raise ServerFailed(f"swift-ring-builder {action[0]} failed: {made.stdout.strip()}")


def _launch(folder: Path, programs: Path, die_with_parent: bool) -> None:
    environment = {**os.environ, "SWIFT_DIR": str(folder / "etc"), "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = str(folder / "etc")  # for its cache
    for server in SERVERS:
        with (folder / "log" / f"{server}.log").open("ab") as log:
            running = subprocess.Popen(
                [programs / f"swift-{server}-server", folder / "etc" / f"{server}-server.conf", "--verbose"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=end_with_parent if die_with_parent else None,
            )
        _children[running.pid] = running
        (folder / f"{server}.pid").write_text(str(running.pid))


def end_with_parent() -> None:
    """Ask the kernel, in a child that is about to start, to end it when its parent dies."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


_children: dict[int, subprocess.Popen[bytes]] = {}


def _is_alive(pid: int) -> bool:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:  # reaped
        return False
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_healthy(folder: Path, endpoint: str) -> bool:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        if not all(_is_alive(int(path.read_text())) for path in folder.glob("*.pid")):
            return False
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{endpoint}/healthcheck", timeout=2).close()
            return True
        time.sleep(0.1)
    return False


def main(arguments: list[str]) -> int:
    """Run ``install``, ``start DIR`` or ``stop DIR``."""
    match arguments:
        case ["install"]:
            print(install())
        case ["start", folder]:
            environment = start(Path(folder).resolve())
            print("export " + " ".join(f"{name}={value}" for name, value in environment.items()))
        case ["stop", folder]:
            stop(Path(folder).resolve())
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
