"""Processes that tonearm starts import tonearm's own code, whatever lies in the current folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tonearm import own_process

pytestmark = pytest.mark.usefixtures("own_surroundings")


@pytest.mark.parametrize("entry", ["", ".", "here"])
def test_nothing_is_imported_from_the_current_folder(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = str(tmp_path) if entry == "here" else entry
    other = str(tmp_path / "lib")
    sys.path[:] = [given, other]
    os.environ["PYTHONPATH"] = os.pathsep.join([given, "lib", ""])
    assert own_process.imported_folder() == str(tmp_path)
    assert own_process.environment()["PYTHONPATH"] == other
    own_process.leave_current_folder()
    assert sys.path == [other] and os.environ["PYTHONPATH"] == other
    assert own_process.imported_folder() is None


def test_tonearms_own_folder_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    own = str(Path(own_process.__file__).parents[1])
    monkeypatch.chdir(own)
    sys.path[:] = [own]
    own_process.leave_current_folder()
    assert sys.path == [own]


@pytest.mark.processes
def test_a_child_process_runs_no_file_of_the_current_folder(tmp_path: Path) -> None:
    for name in ("random", "numpy", "sitecustomize", "tonearm"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(77)")
    program = "from tonearm import own_process as p; import sys; print(*p.command('tonearm', '--version'), sep='\\n')"
    run = own_process.environment(PYTHONPATH=str(Path(own_process.__file__).parents[1]))
    made = subprocess.run([sys.executable, "-P", "-c", program], env=run, capture_output=True, text=True, cwd=tmp_path)
    again = subprocess.run(made.stdout.splitlines(), env=run, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.startswith("tonearm "), again.stderr
