"""Names that stand in one place, so that a change of one is a change of one line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tonearm.runs import places

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "tonearm"
# Those of a destination that mean nothing else anywhere.
NAMES = [places.KEY, places.CHECKPOINT, places.GROUPS, places.PROBE, places.PROGRESS, places.PLAN, places.TODO]


def spelled() -> dict[str, set[str]]:
    """Return each text that stands in the source other than as a docstring, with the modules that have it."""
    modules: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                modules.setdefault(node.value, set()).add(path.relative_to(PACKAGE).as_posix())
    return modules


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_destination_is_spelled_once(name: str) -> None:
    assert spelled()[name] == {"runs/places.py"}
