"""Ratios of two things timed in turns: their median, their spread, and whether a goal was met."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

REPEATS = 7


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table of goals.

    ``values`` has one ratio a repeat; ``goal`` is what the median is to reach (or not to exceed), None for a figure
    without one.
    """

    name: str
    values: tuple[float, ...]
    goal: float | None = None
    unit: str = "×"
    is_at_most: bool = False

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def row(self) -> str:
        """Return the figure as a row of Markdown."""
        goal = "" if self.goal is None else f"{'≤' if self.is_at_most else '≥'} {self.shown(self.goal)}"
        spread = f"{self.shown(min(self.values))} to {self.shown(max(self.values))}"
        return f"| {self.name} | {self.shown(self.median)} | {spread} ({len(self.values)}) | {goal} | {self._said()} |"

    def _said(self) -> str:
        if self.goal is None:
            return ""
        is_met = self.median <= self.goal if self.is_at_most else self.median >= self.goal
        return "met" if is_met else "missed"

    def shown(self, value: float) -> str:
        """Return a value with its unit."""
        if self.unit == "%":
            return f"{value:.1%}"
        return f"{value:.2f}{self.unit if self.unit == '×' else ' ' + self.unit}"


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of the results; ``is_right`` when what was computed is what it has to be, however fast."""

    text: str
    is_right: bool
    figures: tuple[Figure, ...] = ()


def table(figures: Sequence[Figure], title: str) -> str:
    """Return the table of goals under a heading."""
    lines = [f"## {title}", "", "| figure | median | spread (repeats) | goal | |", "|---|---:|---:|---:|---|"]
    return "\n".join([*lines, *(figure.row() for figure in figures)])


def in_turns(
    first: Callable[[], object], second: Callable[[], object], repeats: int = REPEATS
) -> list[tuple[float, float]]:
    """Return the seconds of each, alternating, so that a busy machine slows both; one unmeasured turn goes before."""
    first(), second()
    return [(_timed(first), _timed(second)) for _ in range(repeats)]


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
