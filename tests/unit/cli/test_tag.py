"""What ``tonearm tag`` prints and writes when a destination is tagged a second time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stub_runs import StubRuns
from tonearm.cli import tag as verb
from tonearm.errors import DecodeError
from tonearm.report import figures
from tonearm.runs.run_summary import RunSummary

BROKEN = DecodeError("it breaks off", code="corrupt")


@pytest.mark.processes  # which processor a machine has
def test_a_second_run_reads_no_rows_to_say_it_all_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = StubRuns(tmp_path, monkeypatch)
    runs.failures = {"b.mp3": BROKEN}

    def tag() -> str:
        assert verb.tag([str(runs.music)], str(runs.out), demo_models=True, max_error_rate=1.0) == 0
        return capsys.readouterr().out

    monkeypatch.setattr(verb, "stop_like_ctrl_c", lambda: None)
    first = tag()
    assert "genres: " in first and "failed: 1 corrupt" in first
    before = [*(runs.out / "runs").iterdir(), (runs.out / "report.html").read_bytes()]

    def gathers(destination: str) -> Any:
        raise AssertionError("all rows are read")

    monkeypatch.setattr(figures, "gather", gathers)
    second = tag()
    assert second.splitlines()[0] == f"nothing to do: all 3 tracks are in {runs.out} already"
    assert "2 tracks tagged, 1 failed" in second and "genres: " in second
    assert [*(runs.out / "runs").iterdir(), (runs.out / "report.html").read_bytes()] == before
    monkeypatch.undo()
    (summary,) = (tmp_path / "out" / "runs").iterdir()
    assert RunSummary.from_json(summary.read_text()).found


@pytest.mark.processes
def test_a_report_that_says_otherwise_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = StubRuns(tmp_path, monkeypatch)
    monkeypatch.setattr(verb, "stop_like_ctrl_c", lambda: None)
    verb.tag([str(runs.music)], str(runs.out), demo_models=True)
    (runs.music / "c.mp3").unlink()
    verb.tag([str(runs.music)], str(runs.out), demo_models=True)
    assert "of 2 in the library" in (runs.out / "report.html").read_text()
