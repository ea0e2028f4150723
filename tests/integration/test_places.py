"""The command in places that are not made for it: it works, or says in one line why not.

Starting Ray takes most of the time of a short run, so that several odd things of a place share one. What each of them
alone comes to is told apart in ``tests/unit/test_surroundings.py``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import tonearm
from tests.commands import SIDE_BY_SIDE, read_tracks
from tonearm.demo import NOTICE

SOURCE = Path(tonearm.__file__).parents[1]
TONEARM = Path(sys.executable).with_name("tonearm")
DEAD = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"), DEAD)
# Each says that it was run, and by whom.
TRAP = "import os, sys\nwith open({ran!r}, 'a') as file:\n    print(__file__, sys.argv, file=file)\n"
NAMELESS = 54321
SMALL_SHM = "mount -t tmpfs -o size=64m tmpfs /dev/shm"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can enter, with two tracks of names that look like markup."""
    folder = Path(tempfile.mkdtemp(prefix="tp-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "music" / "[bonus disc]").mkdir(parents=True)
    for name, pitch in (("[bonus disc]/one :smile:.wav", 0.1), ("two [x].flac", 0.2)):
        soundfile.write(folder / "music" / name, np.sin(np.arange(32000) * pitch).astype(np.float32) / 2, 16000)
    (folder / "here").mkdir()
    yield folder
    shutil.rmtree(folder)


def command(*arguments: object) -> str:
    return shlex.join([str(TONEARM), *map(str, arguments)])


def run(
    script: str, folder: Path, *, without: tuple[str, ...] = (), **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run a shell script in ``folder / "here"``, in an environment of which nothing says where Ray's folder is."""
    dropped = ("AWS_", "RAY_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped) and name not in without}
    environment = {**kept, **SIDE_BY_SIDE, "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1", **changes}
    return subprocess.run(
        ["sh", "-c", script], env=environment, cwd=folder / "here", capture_output=True, text=True, timeout=300
    )


def set_traps(folder: Path, *names: str) -> Path:
    """Put Python files of those names where the command is started; return where they would say that they ran."""
    ran = folder / "ran"
    for name in names:
        (folder / "here" / f"{name}.py").write_text(TRAP.format(ran=str(ran)))
    return ran


def assert_tagged(out: Path, ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert read_tracks(out).column("status").to_pylist() == ["ok", "ok"]


def in_mounts(script: str) -> str:
    """Return ``script`` as run with mounts of its own; the test is skipped where there can be none."""
    probe = ["unshare", "-m", "sh", "-c", SMALL_SHM]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs the right to mount, which root has outside of most containers")
    return shlex.join(["unshare", "-m", "sh", "-ec", script])


def as_nobody(script: str, keep: Path) -> str:
    """Return ``script`` as run by a user without a name and of no group, with mounts of their own.

    Args:
        keep: an empty folder, for an interpreter below a folder that only root can enter.
    """
    closed = [path for path in Path(os.path.realpath(sys.executable)).parents if not path.stat().st_mode & 0o001]
    opened = ""
    if closed:
        top = closed[-1]
        child = Path(os.path.realpath(sys.executable)).relative_to(top).parts[0]
        opened = (
            f"mount --bind {top} {keep} && mount -t tmpfs -o mode=755 tmpfs {top} && mkdir {top}/{child} && "
            f"mount --bind {keep}/{child} {top}/{child} && "
        )
    user = f"setpriv --reuid {NAMELESS} --regid {NAMELESS} --clear-groups"
    return in_mounts(f"{SMALL_SHM} && {opened}exec {user} {script}")


@pytest.mark.slow
def test_proxies_a_long_tmpdir_ascii_and_other_peoples_files(place: Path) -> None:
    """Proxies that lead nowhere, a TMPDIR of 90 characters, ASCII, an odd --out, modules in the current folder."""
    long = place / ("t" * (90 - len(str(place)) - 1))
    long.mkdir()
    names = ("random", "numpy", "json", "ray", "torch", "tonearm", "typing", "sitecustomize", "usercustomize")
    ran = set_traps(place, *names)
    out = place / "a?b #[x]%2a* ü\n"
    tag = command("tag", place / "music", "--out", out, "--demo-models")
    ended = run(tag, place, **PROXIES, TMPDIR=str(long), PYTHONIOENCODING="ascii", LC_ALL="C")
    assert_tagged(out, ended)
    assert not ran.exists(), ran.read_text()
    assert sorted(path.name for path in place.iterdir()) == sorted(["here", "music", long.name, out.name])
    assert not list(long.iterdir()), "what a run needs for a while is gone after it"
    status = run(command("status", out), place)
    assert "2 of 2 tracks tagged" in status.stdout and "\\n" in status.stdout


@pytest.mark.slow
def test_no_home_no_name_no_tmpdir_and_little_shared_memory(place: Path) -> None:
    """A user without home and name, a TMPDIR that is not there, /dev/shm of 64 MB, PYTHONPATH with an empty entry."""
    (place / "out").mkdir()
    (place / "out").chmod(0o777)
    (place / "keep").mkdir()
    ran = set_traps(place, "random", "numpy", "ray", "torch", "pyarrow", "typing", "json")
    tag = as_nobody(command("tag", place / "music", "--out", place / "out", "--demo-models"), place / "keep")
    without = ("HOME", "USER", "LOGNAME")
    paths = os.pathsep.join(["", str(SOURCE), ""])
    ended = run(tag, place, without=without, TMPDIR=str(place / "absent"), PYTHONPATH=paths)
    assert_tagged(place / "out", ended)
    assert not ran.exists(), ran.read_text()
    assert (place / "out" / "report.html").stat().st_uid == NAMELESS
    assert not list((place / "here").glob("~*")), "no folder in place of a home"


@pytest.mark.slow
def test_closed_streams_a_full_tmpdir_and_a_home_that_is_read_only(place: Path) -> None:
    """Streams that are closed, a TMPDIR without room, a home that may only be read."""
    for name in ("home", "full"):
        (place / name).mkdir()
    mounts = (
        f"mount -t tmpfs -o size=1m tmpfs {place}/full && (dd if=/dev/zero of={place}/full/fill bs=64k || true) && "
        f"mount -t tmpfs -o ro tmpfs {place}/home && "
    )
    tag = command("tag", place / "music", "--out", place / "out", "--demo-models")
    ended = run(in_mounts(f"{mounts} exec {tag} <&- >&- 2>&-"), place, HOME=str(place / "home"), TMPDIR=f"{place}/full")
    assert_tagged(place / "out", ended)


def one_line(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a command ended with."""
    lines = [line for line in ended.stderr.splitlines() if line != NOTICE]
    assert len(lines) == 1 and lines[0].startswith("tonearm: "), ended.stderr
    return lines[0]


@pytest.mark.parametrize("port", ["nobody", "silent"])
def test_a_ray_that_is_gone_is_one_line_within_seconds(place: Path, port: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if port == "silent":
            listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        ended = run(command("plan", place / "music", "--demo-models"), place, RAY_ADDRESS=address, **PROXIES)
    assert ended.returncode == 2 and time.monotonic() - began < 60  # 400 s before; by itself some 10
    assert re.search(rf"RAY_ADDRESS={address}, but no Ray cluster answers there within \d+ s", one_line(ended))


def test_an_out_that_cannot_be_written_is_refused_before_anything_runs(place: Path) -> None:
    (place / "file").touch()
    (place / "ro").mkdir()
    tag = command("tag", place / "music", "--demo-models", "--out")
    ended = run(f"{tag} {place}/file", place)
    assert ended.returncode == 2 and "a file is where a folder should be" in one_line(ended)
    ended = run(f"{tag} file://out", place)
    assert ended.returncode == 2 and "file://out, which names another machine" in one_line(ended)
    assert not list((place / "here").iterdir())
    ended = run(in_mounts(f"mount -t tmpfs -o ro tmpfs {place}/ro && exec {tag} {place}/ro"), place)
    assert ended.returncode == 2 and "cannot be written" in one_line(ended)
