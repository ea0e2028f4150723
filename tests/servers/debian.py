"""Debian's packages that some tests need: python -m tests.servers.debian PACKAGE... (as root)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence


def install(packages: Sequence[str]) -> None:
    """Install packages; needs root."""
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], check=True, env=quiet)


if __name__ == "__main__":
    install(sys.argv[1:])
