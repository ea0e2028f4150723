"""The figures that bench/RESULTS.md records, and those of a run beside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.figures import Figure
from bench.machine import processor

RESULTS = Path(__file__).with_name("RESULTS.md")
QUICK = "Quick"
_HEADING = re.compile(r"^#+ (.*)$")
_MACHINE = re.compile(r"^Machine: ([^;]*)")
_NUMBER = r"(-?[\d.,]+)\D*"
_ROW = re.compile(rf"^\| (?P<name>.+?) \| {_NUMBER} \| {_NUMBER} to {_NUMBER}\((?P<repeats>\d+)\) \|")


@dataclasses.dataclass(frozen=True)
class Recorded:
    """One figure as it is written down: its median, the lowest and highest of its repeats, and how many there were."""

    median: float
    low: float
    high: float
    repeats: int


def read(text: str) -> dict[str, dict[str, Recorded]]:
    """Return the figures of each table of goals, by the heading above it and their name."""
    tables: dict[str, dict[str, Recorded]] = {}
    heading = ""
    for line in text.splitlines():
        if match := _HEADING.match(line):
            heading = match[1]
        elif match := _ROW.match(line):
            median, low, high = (float(match[group].replace(",", "")) for group in (2, 3, 4))
            tables.setdefault(heading, {})[match["name"]] = Recorded(median, low, high, int(match["repeats"]))
    return tables


def machine(text: str) -> str:
    """Return the processor that the figures were taken on."""
    for line in text.splitlines():
        if match := _MACHINE.match(line):
            return match[1]
    return "a machine that is not named"


def has_fallen(figure: Figure, recorded: Recorded) -> bool:
    """Return whether a figure is worse than every repeat that is recorded: it fell by more than its spread.

    A figure that was measured once has no spread to judge by.
    """
    if recorded.repeats < 2:
        return False
    # As it is written down, a share as a percentage: what reads the same has not fallen.
    median = round(100 * figure.median, 1) if figure.unit == "%" else round(figure.median, 2)
    return median > recorded.high if figure.is_at_most else median < recorded.low


def compare(figures: Sequence[Figure], recorded: Mapping[str, Recorded], where: str) -> str:
    """Return a table of the figures beside those that are recorded, naming which fell by more than their spread.

    Args:
        where: the machine of the recorded ones.
    """
    lines = [
        f"## Beside bench/RESULTS.md ({where})",
        "",
        "| figure | now | recorded | spread | |",
        "|---|---:|---:|---:|---|",
    ]
    fallen, num_compared = [], 0
    for figure in figures:
        now = figure.shown(figure.median)
        if (known := recorded.get(figure.name)) is None:
            lines.append(f"| {figure.name} | {now} | none | | |")
            continue
        num_compared += 1
        scale = 0.01 if figure.unit == "%" else 1.0
        median, low, high = (figure.shown(scale * value) for value in (known.median, known.low, known.high))
        verdict = "fell" if has_fallen(figure, known) else "measured once" if known.repeats < 2 else ""
        fallen += [figure.name] if verdict == "fell" else []
        lines.append(f"| {figure.name} | {now} | {median} | {low} to {high} | {verdict} |")
    lines += ["", f"{num_compared} of {len(figures)} figures compared; this is {processor()}."]
    if fallen:
        lines.append(f"Fell by more than their spread: {'; '.join(fallen)}.")
    elif num_compared:
        lines.append("None fell by more than its spread.")
    return "\n".join(lines)
