"""What tonearm makes of the place that it is started in: streams, the user's folders, proxies.

Services, containers and cron start programs without a terminal, a home or even a user's name, and with variables that
are meant for others. None of that is a reason not to run.
"""

from __future__ import annotations

import atexit
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tonearm.errors import UsageError

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CACHE = "TONEARM_CACHE"


def open_standard_streams() -> None:
    """Give a process that was started without them its standard streams, and let none of them fail at a sign.

    A closed descriptor would be the next file's that is opened, and what is printed would stand there.
    """
    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        name = ("stdin", "stdout", "stderr")[number]
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")


def settle_folders() -> None:
    """See to it that there is a folder for temporary files, and a home; one without is given an empty one for now.

    Libraries put their caches below the home, and where there is none into a folder called ``~`` in the current one.

    Raises:
        UsageError: nothing temporary can be written anywhere.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise UsageError(
            f"no folder can take temporary files ({error.strerror or error}); give TMPDIR one with room that you may "
            "write"
        ) from None
    if not os.path.isdir(os.path.expanduser("~")):
        os.environ["HOME"] = until_the_end("tonearm-home-")
    if "MPLCONFIGDIR" not in os.environ and not _may_write(Path.home() / ".config"):
        os.environ["MPLCONFIGDIR"] = until_the_end("tonearm-matplotlib-")  # it would say on stderr that it has none


def cache_folder() -> Path:
    """Return the user's folder for what can be made or fetched again; for this run alone where it is not writable.

    Processes that this one starts use the same.
    """
    if CACHE in os.environ:
        return Path(os.environ[CACHE])
    usual = user_cache()
    if usual is not None and _may_write(usual):
        return usual
    os.environ[CACHE] = until_the_end("tonearm-cache-")
    return Path(os.environ[CACHE])


def user_cache() -> Path | None:
    """Return where the user's cache is or would be, also where it may only be read; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if base.startswith("~") else Path(base) / "tonearm"


def until_the_end(prefix: str) -> str:
    """Return a new folder that only this user can enter, removed when this process ends."""
    folder, owner = tempfile.mkdtemp(prefix=prefix), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _may_write(folder: Path) -> bool:
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), None)
    return nearest is not None and nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def reach_directly(hosts: Iterable[str]) -> None:
    """Keep what this process and its children say to ``hosts`` and to this machine from going through a proxy.

    Ray's parts speak to each other over HTTP, and a proxy that is set for downloads cannot reach them.
    """
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name.strip() for name in given.split(",") if name.strip()]
    merged = ",".join(dict.fromkeys([*names, *LOOPBACK, *hosts]))
    # gRPC reads only the lower case, others whichever they find first.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = merged
    os.environ.pop("no_grpc_proxy", None)  # which gRPC would prefer
