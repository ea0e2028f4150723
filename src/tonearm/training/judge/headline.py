"""The main figures in one line. Apart from ``metrics``, so that showing them does not import scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tonearm.wording import counted


def main_side(figures: Mapping[str, Any]) -> str | None:
    """Return the side whose figures to show first; None if nothing was held out."""
    # The best epoch was chosen by the validation clips, so their figures are optimistic; those of test are not.
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
