"""Figures never cost a request: their files are whole, private, or not used."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tonearm.web import telemetry
from tonearm.web.telemetry import FILE_BYTES, FILES, FOLDER_VARIABLE, AccessLog, share

COUNT = """
import sys
from pathlib import Path
from tonearm.web.telemetry import metrics, share
share(Path(sys.argv[1]))
for number in range(300):
    metrics().count(f"/route/{number % 12}", f"M{number}" if number % 2 else "GET", 200 + number % 20, 0.1)
sys.stdout.write(metrics().text().decode())
"""


@pytest.fixture(autouse=True)
def unshared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "unset")
    monkeypatch.delenv(FOLDER_VARIABLE)


def test_the_files_have_their_blocks_from_the_beginning(tmp_path: Path) -> None:
    """Mapped files with holes end their process once the disk is full."""
    share(tmp_path / "figures")
    assert os.environ[FOLDER_VARIABLE] == str(tmp_path / "figures")
    assert (tmp_path / "figures").stat().st_mode & 0o777 == 0o700
    for name in FILES:
        file = (tmp_path / "figures" / name.format(os.getpid())).stat()
        assert (file.st_size, file.st_mode & 0o777) == (FILE_BYTES, 0o600)
        assert file.st_blocks * 512 >= FILE_BYTES


@pytest.mark.processes
def test_made_up_methods_do_not_grow_the_metric_files(tmp_path: Path) -> None:
    """Methods are made up by anybody: they are one figure, and the files do not grow."""
    ran = subprocess.run(
        [sys.executable, "-c", COUNT, tmp_path / "figures"], capture_output=True, text=True, check=True
    )
    assert 'method="other"' in ran.stdout and 'method="M1"' not in ran.stdout
    assert {path.stat().st_size for path in (tmp_path / "figures").iterdir()} == {FILE_BYTES}


def test_metrics_stay_in_memory_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    share(tmp_path / "figures")
    assert FOLDER_VARIABLE not in os.environ and not list((tmp_path / "figures").iterdir())
    assert b"tonearm_requests" in telemetry.metrics().text()


@pytest.mark.parametrize("kind", ["a link", "everybody's", "a file"])
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "figures"
    if kind == "a file":
        folder.touch()
    elif kind == "everybody's":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        (tmp_path / "theirs").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "theirs")
    share(folder)
    assert FOLDER_VARIABLE not in os.environ
    assert not folder.is_dir() or not list(folder.iterdir())


def test_a_log_that_cannot_be_written_costs_no_request(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is said of it where somebody may have to read that first: a figure counts the lines that are lost."""
    lost = telemetry.metrics().lost_lines._value.get()  # type: ignore[attr-defined]
    AccessLog("/dev/full").write(status=200)
    assert telemetry.metrics().lost_lines._value.get() == lost + 1  # type: ignore[attr-defined]
    assert capfd.readouterr() == ("", "")


def test_a_prometheus_folder_of_another_program_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "/nonexistent/x")
    telemetry.keep()
    assert FOLDER_VARIABLE not in os.environ
