"""A second real S3 server on loopback: one-node Ceph (monitor, in-memory store) with its RADOS Gateway.

::

    python -m tests.servers.ceph_s3 install        Debian's packages, as root
    python -m tests.servers.ceph_s3 start DIR      start under DIR, print the environment an S3 client needs
    python -m tests.servers.ceph_s3 stop DIR       end exactly the processes that start wrote down in DIR
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.servers.debian import install
from tests.servers.swift_s3 import ServerFailed, ServerUnavailable, end_with_parent, free_ports

ACCESS_KEY, SECRET_KEY = "test", "test-secret"
PACKAGES = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "ceph-common")
PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")

CONF = """\
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon_port}
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
mon allow pool size one = true
mon max pg per osd = 2000
mon warn on pool no redundancy = false
mon data avail crit = 0
mon data avail warn = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
ms bind ipv6 = false
ms bind msgr2 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
log file = {folder}/log/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
mgr data = {folder}/mgr
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 32
"""


def start(folder: Path, *, die_with_parent: bool = False) -> dict[str, str]:
    """Start a server under ``folder`` and return the environment variables that an S3 client needs.

    Args:
        folder: an empty folder; holds the logs and the process ids. The objects stay in memory.
        die_with_parent: end the server when this process dies, however it dies.

    Raises:
        ServerUnavailable: Ceph is not installed, or does not come up.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise ServerUnavailable(f"no {missing[0]} here; python -m tests.servers.ceph_s3 install brings Ceph")
    for name in ("mon", "osd", "mgr", "run", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    port, mon_port = free_ports(2)
    conf = folder / "ceph.conf"
    fsid = str(uuid.uuid4())
    conf.write_text(CONF.format(fsid=fsid, folder=folder, port=port, mon_port=mon_port))
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _bring_up(folder, conf, fsid, mon_port, endpoint, die_with_parent)
    except (ServerUnavailable, subprocess.SubprocessError) as error:
        stop(folder)
        raise ServerFailed(f"Ceph did not come up ({error}); see {folder / 'log'}") from None
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _bring_up(folder: Path, conf: Path, fsid: str, mon_port: int, endpoint: str, die_with_parent: bool) -> None:
    def run(*command: str | Path) -> str:
        made = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, timeout=60, check=True, env=environment
        )
        return made.stdout.strip()

    def launch(*command: str) -> subprocess.Popen[bytes]:
        return _launch(folder, conf, list(command), environment, die_with_parent)

    environment = {**os.environ, "CEPH_CONF": str(conf)}
    monmap = folder / "monmap"
    run("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{mon_port}]", "--fsid", fsid, monmap)
    run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "-c", conf)
    launch("ceph-mon", "-i", "a")
    _wait("the monitor", lambda: bool(run("timeout", "5", "ceph", "fsid")))
    launch("ceph-mgr", "-i", "x")
    osd_uuid = str(uuid.uuid4())
    number = run("ceph", "osd", "new", osd_uuid)
    run("ceph-osd", "-i", number, "--mkfs", "--osd-uuid", osd_uuid, "-c", conf)
    store = [launch("ceph-osd", "-i", number)]

    def is_up() -> bool:
        # It may speak to the monitor before it has been told the cluster's id, is refused, and ends.
        if store[-1].poll() is not None:
            store.append(launch("ceph-osd", "-i", number))
        return "1 up" in run("ceph", "osd", "stat")

    _wait("the object store", is_up)
    launch("radosgw", "-n", "client.rgw")
    _wait("the gateway", lambda: _answers(endpoint))
    keys = [f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
    run("radosgw-admin", "-c", conf, "user", "create", "--uid=test", "--display-name=test", *keys)


def _launch(
    folder: Path, conf: Path, command: list[str], environment: dict[str, str], die_with_parent: bool
) -> subprocess.Popen[bytes]:
    with (folder / "log" / f"{command[0]}.out").open("ab") as log:
        running = subprocess.Popen(
            [*command, "-c", str(conf), "-f"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_parent if die_with_parent else None,
        )
    _children[running.pid] = running
    (folder / f"{command[0]}.pid").write_text(str(running.pid))
    return running


_children: dict[int, subprocess.Popen[bytes]] = {}


def _answers(endpoint: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, OSError):
        urllib.request.urlopen(endpoint, timeout=2).close()
        return True
    return False


def _wait(what: str, condition: Callable[[], bool], timeout_s: float = 120) -> None:
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        with contextlib.suppress(subprocess.SubprocessError):
            if condition():
                return
        time.sleep(0.2)
    raise ServerUnavailable(f"{what} did not answer within {timeout_s:g} s")


def stop(folder: Path) -> None:
    """End exactly the processes that ``start`` wrote down in ``folder``."""
    for path in folder.glob("*.pid"):
        pid = int(path.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # nothing in it is kept, and a graceful end of Ceph takes long
        child = _children.pop(pid, None)
        if child is not None:
            child.wait()
        path.unlink()


def main(arguments: list[str]) -> int:
    """Run ``install``, ``start DIR`` or ``stop DIR``."""
    match arguments:
        case ["install"]:
            install(PACKAGES)
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
