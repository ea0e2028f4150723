"""What people see where a stream is closed, knows only ASCII, or a name looks like markup."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import environment
from tonearm import cli
from tonearm.cli import demo
from tonearm.cli.models import models
from tonearm.demo import models as built_in
from tonearm.distributed.cluster import joining
from tonearm.storage.uris import shown, visible

TONEARM = f"{sys.executable} -P -m tonearm"


def shell(command: str, **changes: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", command], capture_output=True, env=environment(**changes), timeout=120)


@pytest.mark.processes
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    run = shell(f"{TONEARM} models --demo-models {closed}")
    assert run.returncode == 0 and b"Traceback" not in run.stderr


@pytest.mark.processes
def test_a_terminal_that_takes_only_ascii_is_no_error(tmp_path: Path) -> None:
    folder = shutil.copytree(built_in()["genre_model"], tmp_path / "Größe")
    run = shell(f"{TONEARM} models --genre-model '{folder}' --tag-model none", PYTHONIOENCODING="ascii")
    assert run.returncode == 0 and b"Gr??e" in run.stdout and b"Traceback" not in run.stderr


def test_the_log_file_is_private_and_new_for_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(joining, "_log_paths", [])
    with joining._quiet():
        first = Path(joining.log_path())
        assert first.parent == tmp_path and first.stat().st_mode & 0o077 == 0
    with joining._quiet():
        assert Path(joining.log_path()) != first
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["line\nbreak", "\x1b[31mred", "turned \u202e3pm.exe", "bell\a"])
def test_control_characters_do_not_reach_the_terminal(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in (visible(name), shown(str(tmp_path / name)), *cells(name)):
        assert said.isprintable()
    assert models(genre_model=f"./{name}/model", tag_model="none") == 2
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines()) and "\\" in out


def cells(title: str) -> list[str]:
    """Return what the demo's table shows of a track with this title, and of one that failed."""
    row = {"uri": "/a.mp3", "status": "ok", "codec": "mp3", "sample_rate": 44100, "channels": 2, "duration_s": 3.0}
    row |= {"artist": title, "title": title, "genre": title, "genre_score": 0.5, "tags": [{"label": title, "score": 1}]}
    failed = {"uri": f"/{title}", "status": "error", "error_code": "not_audio"}
    return [*demo._cells(row, None), *demo._cells(failed, None)]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_bug(error: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._unexpected(OSError(error, "No space left on device", "/tmp/x\ny")) == 4
    assert capsys.readouterr().err == (
        "tonearm: no space left for /tmp/x\\ny; free some and run the same command again\n"
    )
