"""The help as a terminal of 80 columns shows it."""

from __future__ import annotations

from typer.testing import CliRunner

from tonearm.cli.app import app

WIDTH = 80


def shown(*words: str) -> str:
    run = CliRunner().invoke(app, list(words), prog_name="tonearm", env={"COLUMNS": str(WIDTH)})
    assert run.exit_code == 0, run.output
    return run.output
