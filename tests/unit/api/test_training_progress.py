"""The progress line of a training fits the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tonearm.api.training_progress import TrainingLine


@pytest.mark.parametrize("width", [40, 80])
def test_the_training_line_fits_the_terminal(width: int) -> None:
    """What matters least is left out first; how much is left is always said."""
    with TrainingLine(100) as line:
        line.console = Console(file=io.StringIO(), force_terminal=True, width=width)
        line.num_steps, line.figures = 1_000_000, "accuracy 0.912 · macro map 0.845"
        line.latest = {"step": 123_456, "epoch": 12, "loss": 0.1234, "clips_per_s": 1234.5, "learning_rate": 5e-5}
        text = line._text()
    assert len(text) < width and text.startswith("epoch 13/100") and text.endswith("left")
