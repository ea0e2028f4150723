"""What bench/RESULTS.md keeps, and what a run on this machine says beside it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.figures import Figure

RESULTS = Path(__file__).with_name("RESULTS.md")
QUICK = "Quick"
_HEADING = re.compile(r"^#+ (.*)$")
_MACHINE = re.compile(r"^Machine: ([^;]*)")
_NUMBER = r"(-?[\d.,]+)\D*"
_ROW = re.compile(rf"^\| (?P<name>.+?) \| {_NUMBER} \| {_NUMBER} to {_NUMBER}\((\d+)\) \|")


@dataclasses.dataclass(frozen=True)
class Kept:
    """One figure as it is written down: its median, and the lowest and highest of its repeats."""

    median: float
    low: float
    high: float


def read(text: str) -> dict[str, dict[str, Kept]]:
    """Return the figures of each table of goals, by the heading above it and their name."""
    found: dict[str, dict[str, Kept]] = {}
    heading = ""
    for line in text.splitlines():
        if match := _HEADING.match(line):
            heading = match[1]
        elif match := _ROW.match(line):
            median, low, high = (float(match[place].replace(",", "")) for place in (2, 3, 4))
            found.setdefault(heading, {})[match["name"]] = Kept(median, low, high)
    return found


def machine(text: str) -> str:
    """Return the processor that the figures were taken on."""
    for line in text.splitlines():
        if match := _MACHINE.match(line):
            return match[1]
    return "a machine that is not named"


def fell(figure: Figure, kept: Kept) -> bool:
    """Return whether a figure is worse than any that was kept: it fell by more than its spread."""
    # A share is written down as a percentage.
    median = 100 * figure.median if figure.unit == "%" else figure.median
    # As it is written down: what is equal there has not fallen.
    median = round(median, 1 if figure.unit == "%" else 2)
    return median > kept.high if figure.is_at_most else median < kept.low


def beside(figures: Sequence[Figure], kept: Mapping[str, Kept], where: str) -> str:
    """Return a table of the figures beside those that are kept, naming which fell by more than their spread.

    Args:
        where: the machine of the kept ones.
    """
    lines = [
        f"## Beside bench/RESULTS.md ({where})",
        "",
        "| figure | now | kept | spread | |",
        "|---|---:|---:|---:|---|",
    ]
    fallen = []
    for figure in figures:
        now = figure.shown(figure.median)
        if (known := kept.get(figure.name)) is None:
            lines.append(f"| {figure.name} | {now} | none | | |")
            continue
        scale = 0.01 if figure.unit == "%" else 1.0
        median, low, high = (figure.shown(scale * value) for value in (known.median, known.low, known.high))
        says = "fell" if fell(figure, known) else ""
        fallen += [figure.name] if says else []
        lines.append(f"| {figure.name} | {now} | {median} | {low} to {high} | {says} |")
    if fallen:
        lines += ["", f"Fell by more than their spread: {'; '.join(fallen)}. Another processor may be why."]
    else:
        lines += ["", "None fell by more than its spread."]
    return "\n".join(lines)
