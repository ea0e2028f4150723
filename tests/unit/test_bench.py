"""The benchmarks fail on a wrong result and on nothing else."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from bench import __main__ as bench
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
