"""``docs/python.md`` and ``examples/quickstart.ipynb``: their code, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
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


class Watching(nbclient.NotebookClient):
    """Runs a notebook in a kernel and keeps each state of the outputs that are changed in place."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.states: list[str] = []

    def process_message(self, message: Any, cell: Any, cell_index: int) -> Any:
        """See ``NotebookClient``: called for each message of the kernel."""
        if message["msg_type"] == "update_display_data":
            self.states.append(message["content"]["data"]["text/plain"])
        return super().process_message(message, cell, cell_index)


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes songs and tags them on a Ray of its own; its progress is one output that changes."""
    for name, value in commands.environment().items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    client = Watching(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert len((tmp_path / "demo-tracks.csv").read_text().splitlines()) > 5
    assert (tmp_path / "demo-labels" / "report.html").is_file()
    assert client.states, "no output was changed in place"
    assert re.search(r"\d+ of \d+ tracks|\d+/\d+ tracks", client.states[-1]), client.states[-1]
