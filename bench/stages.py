"""A picture of where a run's time went, from its ``runs/<run>.json``.

python -m bench.stages RUN.json PICTURE.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from tonearm.runs.run_summary import RunSummary

STAGES = ("fetch", "decode", "features", "forward", "pool", "write")
OF_SCORING = ("features", "forward", "pool")


def draw(run: RunSummary, path: Path) -> None:
    """Draw each stage's busy time as a share of what its places had, and say what the rest waited for."""
    speed = run.speed
    if speed is None or not speed.busy_share:
        raise SystemExit(f"run {run.run_id} has no stages; give the summary of a run that tagged something")
    shares = [speed.busy_share.get(stage, 0.0) for stage in STAGES]
    colors = ["#0072b2" if stage in OF_SCORING else "#999999" for stage in STAGES]
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    bars = axes.barh(STAGES, shares, color=colors)
    labels = [
        f"{share:.1%}  ({speed.busy_s.get(stage, 0.0):.1f} s)" for stage, share in zip(STAGES, shares, strict=True)
    ]
    axes.bar_label(bars, labels, padding=4)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.18), xlabel="busy, of the time that its processes had")
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
    axes.spines[["top", "right"]].set_visible(False)
    heads = [model for model in (run.genre_model, run.tag_model) if model is not None]
    how = ", ".join(sorted({f"{model.runtime} {model.precision}" for model in heads}))
    axes.set_title(
        f"{speed.num_tracks} tracks, {speed.audio_s / 60:.0f} min of audio in {speed.span_s:.0f} s, {how}\n"
        f"bottleneck: {speed.bottleneck}",
        loc="left",
        fontsize=10,
    )
    figure.savefig(path, dpi=150)


def main() -> None:
    """Draw the run that is named."""
    source, target = map(Path, sys.argv[1:])
    draw(RunSummary.from_json(source.read_text(), where=str(source)), target)


if __name__ == "__main__":
    main()
