"""Verbs that are called without what they do."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from tonearm.cli import plan, serve, tag
from tonearm.cli.app import app
from tonearm.cli.training import evaluate, train


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the printers of the verbs are called with, by keyword."""
    seen: dict[str, Any] = {}
    for module, name in ((tag, "tag"), (plan, "plan"), (serve, "serve"), (train, "train"), (evaluate, "evaluate")):
        monkeypatch.setattr(module, name, lambda *_, **flags: seen.update(flags) or 0)
    return seen


def run(command: str) -> None:
    result = CliRunner().invoke(app, command.split(), standalone_mode=False)
    assert result.exception is None, result.exception
