"""Histograms as the plain geometry that the template draws in SVG, so that they follow the page's colours and fonts."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tonearm.report.text import amount, number
from tonearm.wording import counted

# User units of the SVG; narrow, so that its text stays readable when a phone shrinks it.
WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 40
MAX_DURATION_BINS = 24
BIN_WIDTHS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 36000)


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bar, in user units from the top left; ``text`` says its range and count."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclasses.dataclass(frozen=True)
class Tick:
    """A mark on an axis, in user units."""

    place: float
    text: str


@dataclasses.dataclass(frozen=True)
class Histogram:
    """A picture to draw, and ``alt``, which says in words what it shows."""

    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str
    y_title: str
    alt: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def score_histogram(scores: NDArray[np.float32]) -> Histogram:
    """Return the distribution of genre scores in [0, 1] over 20 bins.

    Args:
        scores: float32 [tracks].
    """
    counts, edges = np.histogram(scores, bins=20, range=(0.0, 1.0))
    texts = [f"{low:.2f} to {high:.2f}" for low, high in itertools.pairwise(edges)]
    ticks = [(value, f"{value:g}") for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    alt = "no scores"
    if len(scores):
        low, middle, high = np.quantile(scores, [0.1, 0.5, 0.9])
        alt = (
            f"Of {counted(len(scores), 'track')}, half score {middle:.2f} or more, "
            f"a tenth under {low:.2f}, a tenth over {high:.2f}."
        )
    return _histogram(counts, (0.0, 1.0), texts, ticks, "score of the winning genre", alt)


def duration_histogram(durations_s: NDArray[np.float32]) -> Histogram:
    """Return the distribution of durations; the longest hundredth shares the last bar when it would stretch the axis.

    Args:
        durations_s: float32 [tracks].
    """
    longest = float(durations_s.max()) if len(durations_s) else 1.0
    shown_s = max(float(np.quantile(durations_s, 0.99)), 0.5) if len(durations_s) else 1.0
    # One recording of hours would press all other tracks into the first bar.
    shown_s = longest if longest < 1.5 * shown_s else shown_s
    width_s = next((step for step in BIN_WIDTHS_S if shown_s / step <= MAX_DURATION_BINS), BIN_WIDTHS_S[-1])
    num_bins = min(MAX_DURATION_BINS, int(shown_s // width_s) + 1)
    end_s = num_bins * width_s
    counts, edges = np.histogram(np.minimum(durations_s, end_s), bins=num_bins, range=(0.0, end_s))
    texts = [f"{_axis(low)} to {_axis(high)}" for low, high in itertools.pairwise(edges)]
    every = max(1, -(-num_bins // 6))
    ticks = [(float(edges[place]), _axis(edges[place])) for place in range(0, num_bins + 1, every)]
    if longest > end_s:
        texts[-1] = f"{_axis(edges[-2])} or longer (up to {amount(longest)})"
        # Without the ticks that the word longer would overlap.
        ticks = [tick for tick in ticks if tick[0] < end_s - 2 * width_s] + [(end_s - width_s / 2, "longer")]
    alt = "no durations"
    if len(durations_s):
        low, middle, high = np.quantile(durations_s, [0.1, 0.5, 0.9])
        alt = (
            f"Of {counted(len(durations_s), 'track')}, half last {_axis(middle)} or more, "
            f"a tenth less than {_axis(low)}, a tenth more than {_axis(high)}, the longest {_axis(longest)}."
        )
    return _histogram(counts, (0.0, end_s), texts, ticks, "duration", alt)


def _axis(seconds: float) -> str:
    seconds = round(float(seconds), 1)
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d} h"
    return f"{minutes}:{rest:02d} min" if rest else f"{minutes} min"


def _histogram(
    counts: NDArray[np.int64],
    span: tuple[float, float],
    texts: Sequence[str],
    ticks: Sequence[tuple[float, str]],
    x_title: str,
    alt: str,
) -> Histogram:
    y_values = nice_ticks(int(counts.max(initial=0)))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def y_of(count: ArrayLike) -> NDArray[np.float64]:
        return np.round(bottom - np.asarray(count, np.float64) / y_values[-1] * (bottom - TOP), 1)

    step = (right - LEFT) / len(counts)
    bars = tuple(
        Bar(round(LEFT + step * place + 0.75, 1), float(y), round(step - 1.5, 1), round(bottom - float(y), 1), text)
        for place, (y, text) in enumerate(
            (y_of(count), f"{text}: {counted(count, 'track')}")
            for count, text in zip(counts.tolist(), texts, strict=True)
        )
        if counts[place]
    )
    low, high = span
    x_ticks = tuple(Tick(round(LEFT + (value - low) / (high - low) * (right - LEFT), 1), text) for value, text in ticks)
    y_ticks = tuple(Tick(float(y_of(value)), number(value)) for value in y_values)
    return Histogram(bars, x_ticks, y_ticks, x_title, "tracks", alt)


def nice_ticks(highest: int) -> list[int]:
    """Return whole numbers from 0 in steps of 1, 2 or 5 times a power of ten, the last not under ``highest``."""
    # 1, 2, 5, 10, 20, 50: each step is the one before times 2, 2.5 or 2.
    step, factors = 1, (2.0, 2.5, 2.0)
    turn = 0
    while step * 4 < highest:
        step = int(step * factors[turn % 3])
        turn += 1
    return [step * place for place in range(max(1, -(-highest // step)) + 1)]
