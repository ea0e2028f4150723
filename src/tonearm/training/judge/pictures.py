"""Draw the pictures of a model folder: confusion matrix, curves of loss and accuracy, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure as New
from numpy.typing import NDArray

from tonearm.training.judge.metrics import reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
MAX_NUMBERED_CLASSES = 30
NAMES = {"loss": "loss", "accuracy": "accuracy", "macro_f1": "macro F1", "macro_map": "macro mAP", "micro_map": "mAP"}


def write_confusion(path: Path, confusion: Sequence[Sequence[int]], labels: Sequence[str], *, title: str) -> None:
    """Draw a confusion matrix [true, predicted]; colours are shares of the true class, numbers are counts.

    Args:
        confusion: int [L, L].
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(16.0, 3.0 + 0.45 * len(labels))
    figure = _new_figure(side + 1, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="said", ylabel="true", title=title)
    # Numbers in more than 30 columns would overlap.
    if len(labels) <= MAX_NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    figure.savefig(path, dpi=DPI)


def write_curves(path: Path, losses: Sequence[tuple[int, float]], evaluations: Sequence[Mapping[str, float]]) -> None:
    """Draw the training loss and the figures of each evaluation over the optimizer steps."""
    figure = _new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    if losses:
        left.plot(*zip(*losses, strict=True), label="training", linewidth=1)
    steps = [row["step"] for row in evaluations]
    if evaluations:
        left.plot(steps, [row["loss"] for row in evaluations], "o-", label="validation", markersize=3)
        left.legend()
    left.set(xlabel="step", ylabel="loss", title="loss")
    for name in [name for name in NAMES if name != "loss" and evaluations and name in evaluations[0]]:
        right.plot(steps, [row[name] for row in evaluations], "o-", label=NAMES[name], markersize=3)
    right.set(xlabel="step", ylim=(0, 1.02), title="validation")
    if evaluations:
        right.legend()
    else:
        right.text(0.5, 0.5, "no validation clips", ha="center", transform=right.transAxes)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=DPI)


def write_reliability(path: Path, sides: Mapping[str, tuple[NDArray[Any], NDArray[np.bool_]]], *, title: str) -> None:
    """Draw the share of right predictions over their confidence.

    Args:
        sides: name to (confidence [N], is_right [N]), such as before and after a temperature.
    """
    figure = _new_figure(6, 5.5)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="perfect")
    for name, (confidence, is_right) in sides.items():
        bins = reliability(confidence, is_right)
        error = sum(share * abs(right - mean) for share, mean, right, _ in bins)
        top.plot(
            [mean for _, mean, _, _ in bins], [right for _, _, right, _ in bins], "o-", label=f"{name}, ECE {error:.3f}"
        )
        centres = [(low + high) / 2 for *_, (low, high) in bins]
        bottom.bar(centres, [share for share, *_ in bins], width=1 / 15, alpha=0.5)
    top.set(ylabel="share that is right", title=title, xlim=(0, 1), ylim=(0, 1.02))
    top.legend()
    top.grid(alpha=0.3)
    bottom.set(xlabel="score", ylabel="share")
    figure.savefig(path, dpi=DPI)


def _new_figure(width: float, height: float) -> Figure:
    # Not with pyplot, which keeps every figure in memory until it is closed.
    return New(figsize=(width, height), layout="constrained")
