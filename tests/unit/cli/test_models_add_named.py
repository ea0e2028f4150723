"""``tonearm models add`` with a model's name: what it advises works where the hub cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.cli.app import app
from tonearm.cli.verbs import models_add


def test_the_advice_needs_no_hub(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the default genre model, which comes from the hub, the advised run would be refused there."""
    monkeypatch.setattr(models_add, "NAMED", {"musicnn": lambda name, wheel: Path("added") / name})
    assert app(["models", "add", "musicnn"], standalone_mode=False) == 0
    assert "--tag-model musicnn --genre-model none --out RUN" in capsys.readouterr().out
