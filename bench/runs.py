"""``tonearm tag`` as a person would run it, and what the run wrote about itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_tag(library: Path, out: Path, *options: str, is_quiet: bool = False, **environment: str) -> dict[str, Any]:
    """Tag a library into a place; return the summary of this run."""
    subprocess.run(
        [sys.executable, "-m", "tonearm", "tag", str(library), "--out", str(out), *options],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if is_quiet else None,
        env={**os.environ, **environment},
    )
    summary = max((out / "runs").glob("*.json"))  # whose names begin with their time
    run: dict[str, Any] = json.loads(summary.read_text())
    return run
