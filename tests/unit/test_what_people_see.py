"""What people see where a stream is closed, knows only ASCII, or a name looks like markup."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints import save_small
from tests.commands import environment
from tonearm.cli.models import models
from tonearm.distributed import joining
from tonearm.settings import ModelSettings

TONEARM = f"{sys.executable} -P -m tonearm"


def shell(command: str, **changes: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", command], capture_output=True, env=environment(**changes), timeout=120)


@pytest.mark.processes
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    run = shell(f"{TONEARM} models --demo-models {closed}")
    assert run.returncode == 0 and b"Traceback" not in run.stderr


@pytest.mark.processes
def test_ascii_is_no_error(tmp_path: Path) -> None:
    folder = save_small(tmp_path / "Größe", "hubert")
    run = shell(f"{TONEARM} models --genre-model '{folder}' --tag-model none", PYTHONIOENCODING="ascii")
    assert run.returncode == 0 and b"Gr??e" in run.stdout and b"Traceback" not in run.stderr


@pytest.mark.parametrize("name", ["[bonus disc]", "[/b]", "[red]", ":smile:", "a[1]"])
def test_names_are_no_markup(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ModelSettings(genre_model=str(tmp_path / name), tag_model=None)
    assert models(settings) == 2
    said = "".join(capsys.readouterr().out.split())
    assert "".join(name.split()) in said


def test_the_log_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(joining, "_log_paths", [])
    with joining._quiet():
        first = Path(joining.log_path())
        assert first.parent == tmp_path and first.stat().st_mode & 0o077 == 0
    with joining._quiet():
        assert Path(joining.log_path()) != first
    assert not list(tmp_path.iterdir())
