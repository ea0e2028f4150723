"""A run is cut into executions of whole parts, each with one set of heads."""

from __future__ import annotations

from tonearm.distributed.tagging.run import executions
from tonearm.runs.todo import TodoPart


def test_executions_are_whole_parts_of_at_least_so_many_tracks() -> None:
    parts = [TodoPart(f"p{number}", count) for number, count in enumerate([50, 50, 50, 10, 120, 5])]
    assert [[part.url for part in some] for some in executions(parts, 100)] == [
        ["p0", "p1"],
        ["p2", "p3", "p4"],
        ["p5"],
    ]
    assert list(executions([], 100)) == []


def test_a_leg_has_one_set_of_heads() -> None:
    fresh, tags = [TodoPart("a", 1), TodoPart("b", 1)], TodoPart("c", 1, ("tags",), again=0)
    both = TodoPart("d", 1, ("genre", "tags"), again=1)
    assert list(executions([*fresh, tags, both], 100)) == [fresh, [tags], [both]]
