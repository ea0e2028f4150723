"""What labels a library for how much: a table of cost against agreement, and its plot.

python -m bench.choose --costs COSTS.json --student STUDENT [--price 0.04] [--plot docs/choose.png]

COSTS.json is what `python -m bench.cost --json COSTS.json --model student=STUDENT` has written, and STUDENT a folder
that `tonearm distill` has made of YAMNet; its metrics.json and tonearm.json have how far the two agree, and what a
cascade of them does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Money for an hour of one core: what clouds ask for a virtual core of a general machine that may be taken away.
PRICE = 0.04
TEACHER, STUDENT = "YAMNet", "student"
INK, ACCENT = "#24292f", "#009485"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to label: core-seconds of a track of four minutes, and how often its first label is the teacher's."""

    name: str
    core_s: float
    agreement: float | None = None

    def price(self, per_core_hour: float) -> float:
        """Return the money for a million tracks."""
        return self.core_s / 3600 * per_core_hour * 1e6


def cascade(costs: Mapping[str, Mapping[str, float]], curve: Sequence[Mapping[str, float]]) -> list[Choice]:
    """Return a cascade's points: the student hears every window, the teacher a share of them.

    Args:
        costs: by model, core-seconds of a track by stage: ``features``, ``forward`` and ``whole``.
        curve: ``share_sent`` and ``agreement`` at several thresholds.
    """
    teacher_s = costs[TEACHER]["features"] + costs[TEACHER]["forward"]
    return [
        Choice(
            f"cascade, {point['share_sent']:.0%} to the teacher",
            costs[STUDENT]["whole"] + point["share_sent"] * teacher_s,
            point["agreement"],
        )
        for point in curve
        if point["share_sent"] > 0
    ]


def choices(costs: Mapping[str, Mapping[str, float]], facts: Mapping[str, Any]) -> list[Choice]:
    """Return every way that was measured, the dearest first."""
    side = "test" if "test" in facts["evaluation"] else "validation"
    agreement = {TEACHER: 1.0, STUDENT: facts["evaluation"][side]["first_label"]["window"]["value"]}
    known = [Choice(name, cost["whole"], agreement.get(name)) for name, cost in costs.items()]
    return sorted([*known, *cascade(costs, facts["fallback"]["curve"])], key=lambda choice: -choice.core_s)


def table(ways: Sequence[Choice], price: float) -> str:
    """Return the choices as a table of Markdown."""
    lines = [
        f"| | core-seconds of a track of four minutes | dollars a million tracks at {price:.2f} a core-hour "
        f"| first label of a window is {TEACHER}'s |",
        "|---|---:|---:|---:|",
    ]
    for way in ways:
        agreement = "" if way.agreement is None else f"{way.agreement:.3f}"
        lines.append(f"| {way.name} | {way.core_s:.2f} | {way.price(price):,.1f} | {agreement} |")
    return "\n".join(lines)


def draw(ways: Sequence[Choice], path: Path) -> None:
    """Draw cost against agreement; what nothing is known of is a line at its cost."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    points = [way for way in ways if way.agreement is not None]
    path_of_cascade = [way for way in points if way.name.startswith(("cascade", STUDENT))]
    axes.plot([way.core_s for way in path_of_cascade], [way.agreement for way in path_of_cascade], color=ACCENT)
    axes.scatter([way.core_s for way in points], [way.agreement for way in points], color=ACCENT, zorder=3)
    for way in points:
        if not way.name.startswith("cascade"):
            axes.annotate(way.name, (way.core_s, way.agreement or 0), xytext=(6, -12), textcoords="offset points")
    lowest = min((way.agreement or 0) for way in points)
    for way in ways:
        if way.agreement is None:
            axes.axvline(way.core_s, color=INK, alpha=0.25)
            axes.text(way.core_s, lowest, f" {way.name}", rotation=90, va="bottom", ha="right", color=INK)
    axes.set(
        xscale="log",
        xlabel="core-seconds of a track of four minutes",
        ylabel=f"first label of a window is {TEACHER}'s",
    )
    for place in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        place("{x:g}")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print the table, and draw the plot."""
    parser = argparse.ArgumentParser(prog="python -m bench.choose")
    parser.add_argument("--costs", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--price", type=float, default=PRICE)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    facts = json.loads((arguments.student / "metrics.json").read_text())
    ways = choices(json.loads(arguments.costs.read_text()), facts)
    print(table(ways, arguments.price))
    if arguments.plot:
        draw(ways, arguments.plot)


if __name__ == "__main__":
    main()
