"""The pictures are drawn, also of a run without evaluations and of more classes than can be numbered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tonearm.training.judge.pictures import write_confusion, write_curves, write_reliability


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("num_labels", [2, 31])
def test_a_confusion_matrix_is_drawn_also_of_a_class_without_clips(num_labels: int, tmp_path: Path) -> None:
    counts = np.zeros((num_labels, num_labels), int)
    counts[0, 1] = 3
    path = tmp_path / "confusion.png"
    write_confusion(path, counts.tolist(), [f"label {number}" for number in range(num_labels)], title="title")
    assert is_png(path)


@pytest.mark.parametrize("evaluations", [[], [{"step": 2, "loss": 0.5, "accuracy": 0.5, "macro_f1": 0.4}]])
def test_curves_are_drawn_with_and_without_evaluations(evaluations: list[dict[str, float]], tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    write_curves(path, [(1, 0.7), (2, 0.6)] if evaluations else [], evaluations)
    assert is_png(path)


def test_reliability_is_drawn_of_every_side(tmp_path: Path) -> None:
    path = tmp_path / "reliability.png"
    side = (np.array([0.1, 0.6, 1.0]), np.array([False, True, True]))
    write_reliability(path, {"scores": side, "with a temperature": side}, title="title")
    assert is_png(path)
