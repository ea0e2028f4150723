"""The figures that a reader should see first, without what computes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tonearm.wording import counted


def main_side(figures: Mapping[str, Any]) -> str | None:
    """Return the side whose figures a reader should see first, or None where nothing was held out."""
    # The validation clips chose the best epoch, which flatters their figures; the test clips chose nothing.
    return next((side for side in ("test", "validation") if side in figures), None)


def headline(figures: Mapping[str, Any], *, is_multi: bool) -> str:
    """Return a side's main figures in one line."""
    track = figures["track"]
    if is_multi:
        return (
            f"macro mAP {track['macro_map']:.3f}, micro mAP {track['micro_map']:.3f}, mean AUC {track['mean_auc']:.3f} "
            f"over {counted(track['num_labels'], 'tag')}, {counted(figures['num_tracks'], 'track')}"
        )
    low, high = track["accuracy_interval"]
    return (
        f"accuracy {track['accuracy']:.3f} (95% interval {low:.3f} to {high:.3f}), macro F1 {track['macro_f1']:.3f}, "
        f"{counted(figures['num_tracks'], 'track')}"
    )
