"""serve/nginx.conf as a running nginx."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.commands import wait_for

PROGRAM = shutil.which("nginx") or "/usr/sbin/nginx"
CONFIG = Path(__file__).resolve().parents[2] / "serve" / "nginx.conf"
LISTEN, BEHIND = "listen 8080;", "server 127.0.0.1:8000;"


@contextlib.contextmanager
def running(folder: Path, port: int, behind: int, **changes: str) -> Iterator[str]:
    """Yield the address of an nginx on ``port`` before a server on ``behind``, as the configuration has it.

    Args:
        changes: other values for its directives.
    """
    text = CONFIG.read_text()
    for there, here in ((LISTEN, f"listen 127.0.0.1:{port};"), (BEHIND, f"server 127.0.0.1:{behind};")):
        assert there in text
        text = text.replace(there, here)
    for name, value in changes.items():
        (line,) = (line for line in text.splitlines() if line.strip().startswith(f"{name} "))
        text = text.replace(line, f"{name} {value};")
    (folder / "nginx.conf").write_text(text)
    # As root it hands its workers to another user, who may not enter a private temporary folder.
    settings = "daemon off; user root;" if os.geteuid() == 0 else "daemon off;"
    process = subprocess.Popen([PROGRAM, "-p", folder, "-c", folder / "nginx.conf", "-g", settings])
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None, timeout_s=20, what="nginx")
        assert process.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
