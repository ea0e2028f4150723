"""The benchmarks fail on a wrong result and on nothing else."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from bench import __main__ as bench
from bench import baseline
from bench.figures import Figure, Section


@pytest.mark.parametrize(("is_right", "status"), [(True, 0), (False, 1)])
def test_only_a_wrong_result_is_a_failure(
    is_right: bool, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = Figure("how fast", (0.5, 0.4, 0.6, 0.5, 0.5), goal=2.0)
    section = Section("## decoding", is_right, (slow,))
    measured = SimpleNamespace(cases=lambda folder, quick: ["a case"], measure=lambda case, folder: section)
    monkeypatch.setattr(bench, "GOALS", {"decoding": measured})
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert bench.main() == status
    shown = capsys.readouterr()
    assert "| how fast | 0.50× | 0.40× to 0.60× (5) | ≥ 2.00× | missed |" in shown.out
    assert ("decoding: a result is wrong" in shown.err) is not is_right


WRITTEN = """# Measured

Machine: A Processor (avx2), 2 cores; Python 3.11

## Goals

| figure | median | spread (repeats) | goal | |
|---|---:|---:|---:|---|
| how fast | 9.00× | 8.00× to 9.50× (5) | ≥ 2.00× | met |

## Quick

| figure | median | spread (repeats) | goal | |
|---|---:|---:|---:|---|
| how fast | 2.05× | 2.03× to 2.10× (7) | ≥ 1.35× | met |
| how much more | 6.5% | 1.4% to 7.7% (5) | ≤ 3.0% | missed |
| `--help`, of many | 1,234.11 s | 1,200.00 s to 1,300.16 s (7) | ≤ 0.30 s | missed |
"""


def test_what_is_written_down_is_read_by_its_heading() -> None:
    found = baseline.read(WRITTEN)
    assert found["Goals"] == {"how fast": baseline.Recorded(9.0, 8.0, 9.5, 5)}
    assert found["Quick"] == {
        "how fast": baseline.Recorded(2.05, 2.03, 2.10, 7),
        "how much more": baseline.Recorded(6.5, 1.4, 7.7, 5),
        "`--help`, of many": baseline.Recorded(1234.11, 1200.0, 1300.16, 7),
    }
    assert baseline.machine(WRITTEN) == "A Processor (avx2), 2 cores"
    assert baseline.machine("") == "a machine that is not named"


@pytest.mark.parametrize(
    ("figure", "has_fallen"),
    [
        (Figure("how fast", (2.02,)), True),
        (Figure("how fast", (2.03,)), False),
        (Figure("how fast", (9.0,)), False),
        (Figure("how much more", (0.078,), unit="%", is_at_most=True), True),
        (Figure("how much more", (0.077,), unit="%", is_at_most=True), False),
        (Figure("how much more", (0.001,), unit="%", is_at_most=True), False),
        (Figure("`--help`, of many", (1300.5,), unit="s", is_at_most=True), True),
    ],
)
def test_a_figure_that_is_worse_than_its_whole_spread_has_fallen(figure: Figure, has_fallen: bool) -> None:
    text = baseline.compare([figure], baseline.read(WRITTEN)["Quick"], "there")
    assert ("| fell |" in text) is has_fallen
    assert (f"Fell by more than their spread: {figure.name}" in text) is has_fallen
    assert ("None fell by more than its spread" in text) is not has_fallen


def test_each_figure_stands_beside_the_one_that_is_kept() -> None:
    figures = [Figure("how much more", (0.05, 0.06, 0.07), unit="%", is_at_most=True), Figure("new", (1.0,))]
    text = baseline.compare(figures, baseline.read(WRITTEN)["Quick"], "A Processor")
    assert text.startswith("## Beside bench/RESULTS.md (A Processor)")
    assert "| how much more | 6.0% | 6.5% | 1.4% to 7.7% |  |" in text
    assert "| new | 1.00× | none | | |" in text
    assert "1 of 2 figures compared" in text
    nothing = baseline.compare(figures, {}, "A Processor")
    assert "0 of 2 figures compared" in nothing and "None fell" not in nothing


def test_what_was_measured_once_is_not_judged() -> None:
    once = {"how fast": baseline.Recorded(2.0, 2.0, 2.0, 1)}
    text = baseline.compare([Figure("how fast", (1.0,))], once, "there")
    assert "| measured once |" in text and "fell |" not in text


def test_the_recorded_figures_can_be_read() -> None:
    """The tables that the repository has are of the shape that is read."""
    text = baseline.RESULTS.read_text()
    tables = baseline.read(text)
    assert len(tables["Goals"]) >= 14
    assert tables["Goals"]["`tonearm --help`"].median < 1
    assert len(tables[baseline.QUICK]) >= 8
    assert baseline.machine(text) != baseline.machine("")
