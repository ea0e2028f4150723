"""How long a window is: what was asked for, within what the model takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import AST, save_small
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.window_plan import plan_windows


def test_windows_come_from_the_checkpoint(hubert: Path, tmp_path: Path) -> None:
    ast = describe_checkpoint(str(save_small(tmp_path / "ast", AST)))
    assert plan_windows(ast, None, None).window_samples == 163_840  # 10.24 s
    assert plan_windows(ast, 30.0, None).window_samples == 163_840
    assert plan_windows(ast, 5.0, 8).window_samples == 80_000
    assert plan_windows(describe_checkpoint(str(hubert)), None, None).window_samples == 480_000
    with pytest.raises(CheckpointError, match="expected at least"):
        plan_windows(ast, 0.001, None)
