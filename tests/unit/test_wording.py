"""How counts are said: 1 track, 2 tracks; and that no message puts a number before a noun by itself."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from tonearm.wording import by_count, clock, counted, fitting, hours, some

PACKAGE = Path(__file__).parents[2] / "src" / "tonearm"


NOUNS = (
    "tracks|files|errors|rows|clips|genres|tags|labels|windows|steps|epochs|workers|GPUs|CPUs|cores|nodes|copies|groups"
    "|attempts|URIs|weights|numbers|parameters"
)


COUNTED = re.compile(rf" (?:[a-z]+ )?(?:{NOUNS})\b(?!/)")


# What web/ says is for programs, and counts bytes and requests up to a bound that is never 1.
ELSEWHERE = ("web",)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (counted(1, "track"), "1 track"),
        (counted(0, "track"), "0 tracks"),
        (counted(1204, "track"), "1,204 tracks"),
        (counted(np.int64(10**6), "row"), "1,000,000 rows"),
        (counted(1.0, "CPU"), "1 CPU"),
        (counted(1.5, "CPU"), "1.5 CPUs"),
        (counted(2, "copy"), "2 copies"),
        (counted(2, "key"), "2 keys"),
        (counted(2, "class"), "2 classes"),
        (counted(1, "clip", "was", "were"), "1 clip was"),
        (counted(2, "clip", "was", "were"), "2 clips were"),
        (some(["a", "b"], 1), "a, b"),
        (some(["a", "b", "c"], 1), "a and 2 more"),
        (some([], 3), ""),
        (by_count({"jazz": 3, "rock": 1200, "pop": 3}, 2), "1,200 rock, 3 jazz, 3 pop"),
        (by_count({"a": 4, "b": 3, "c": 2, "d": 1}, 2), "4 a, 3 b and 2 more"),
    ],
)
def test_counts(said: str, expected: str) -> None:
    assert said == expected


def test_no_message_counts_by_itself() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for value, after in itertools.pairwise(parts):
                if isinstance(value, ast.FormattedValue) and COUNTED.match(str(getattr(after, "value", ""))):
                    wrong += [f"{path.name}:{node.lineno}: {ast.unparse(value)}"] * is_count(value)
    assert not wrong, "\n".join(wrong)


def is_count(value: ast.FormattedValue) -> bool:
    """Return whether what is put in is a number rather than a name, a share or a text that has been counted."""
    text = ast.unparse(value.value)
    return not re.search(r"counted\(|share|shown\(|tracks_per_s|\bout\b|\bplace\b|\bwhat\b", text)


@pytest.mark.parametrize(
    ("width", "line"), [(20, "12 of 40 tracks done"), (19, "12/40"), (5, "12/40"), (4, "12…0"), (1, "…")]
)
def test_a_line_is_shortened_and_then_cut_in_its_middle(width: int, line: str) -> None:
    assert fitting(["12 of 40 tracks done", "12/40"], width) == line


@pytest.mark.parametrize(("seconds", "said"), [(5, "5 s"), (600, "10.0 min"), (36000, "10.0 h")])
def test_hours(seconds: float, said: str) -> None:
    assert hours(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(5, "0:05"), (65, "1:05"), (3700, "1:01:40")])
def test_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said
