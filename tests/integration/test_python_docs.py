"""``docs/python.md`` and ``examples/quickstart.ipynb``: their code, run as it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import commands

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def run_in_one_process(parts: list[str], folder: Path) -> str:
    """Run pieces of code one after the other, as a notebook does; return what they print."""
    (folder / "program.py").write_text("\n\n".join(parts))
    command = [sys.executable, "program.py"]
    run = subprocess.run(
        command, cwd=folder, env=commands.environment(), capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_the_page_runs(songs: Path, tmp_path: Path) -> None:
    """It tags a library on a Ray of its own."""
    parts = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    assert len(parts) == 6
    (tmp_path / "music").symlink_to(songs)
    (tmp_path / "song.flac").write_bytes(sorted(songs.glob("*/*.flac"))[0].read_bytes())
    parts[2] = parts[2].replace("demo_models=True", "demo_models=True, max_error_rate=0.5")  # one song is broken
    printed = run_in_one_process(parts, tmp_path)
    assert "True" in printed.splitlines() and "complete" in printed.splitlines()
    assert (tmp_path / "rock.csv").is_file() and (tmp_path / "labels" / "report.html").is_file()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """It writes songs and tags them on a Ray of its own."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    run_in_one_process(["".join(cell["source"]) for cell in cells], tmp_path)
    assert len((tmp_path / "demo-tracks.csv").read_text().splitlines()) > 5
    assert (tmp_path / "demo-labels" / "report.html").is_file()
