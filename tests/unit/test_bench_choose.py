"""What a cascade costs, and what a million tracks cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.choose import Choice, choices, draw, table

COSTS = {
    "AST fp32": {"features": 1.0, "forward": 98.0, "whole": 100.0},
    "YAMNet": {"features": 0.5, "forward": 3.5, "whole": 4.5},
    "student": {"features": 0.2, "forward": 0.3, "whole": 1.0},
}
FACTS = {
    "evaluation": {"test": {"first_label": {"window": {"value": 0.7}}}},
    "fallback": {"curve": [{"share_sent": 0.0, "agreement": 0.7}, {"share_sent": 0.25, "agreement": 0.9}]},
}


def test_a_cascade_costs_its_student_and_the_share_that_its_teacher_hears() -> None:
    ways = choices(COSTS, FACTS)
    assert [(way.name, way.core_s, way.agreement) for way in ways] == [
        ("AST fp32", 100.0, None),
        ("YAMNet", 4.5, 1.0),
        ("cascade, 25% to the teacher", 2.0, 0.9),
        ("student", 1.0, 0.7),
    ]


def test_a_million_tracks_cost_what_their_core_hours_cost() -> None:
    assert Choice("x", 3.6).price(0.04) == pytest.approx(40.0)
    assert "| student | 1.00 | 11.1 | 0.700 |" in table(choices(COSTS, FACTS), 0.04)


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    draw(choices(COSTS, FACTS), tmp_path / "choose.png")
    assert (tmp_path / "choose.png").read_bytes().startswith(b"\x89PNG")
