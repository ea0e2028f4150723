"""The mutants that are tried are changes of what the code does, and they are counted as they are."""

from __future__ import annotations

import ast

import pytest
from bench import mutants
from bench.mutants import Mutant, Outcome

CODE = '''"""A module."""
from __future__ import annotations
LIMIT: int | None = 3
def clipped(value: int | float, low: int = 0) -> int | float:
    """Return at least low."""
    while True:
        if value < low and LIMIT:
            break
        return value
    return (low
            + 0)
'''


def every(code: str) -> list[Mutant]:
    """Return each mutant of the code."""
    pairs = [pair for variants in mutants.candidates(code).values() for pair in variants]
    made = [mutants._mutant("windows", code, name, occurrence) for name, occurrence in pairs]
    return [mutant for mutant in made if mutant is not None]


def test_every_mutant_is_another_program() -> None:
    found = every(CODE)
    assert len(found) > 20
    plain = ast.dump(ast.parse(CODE))
    for mutant in found:
        assert ast.dump(ast.parse(mutant.source)) != plain
        assert mutant.before != mutant.after
        assert mutant.before.split()[0] in CODE


def test_annotations_are_no_place_for_a_mutant() -> None:
    changed = {(mutant.lines[0], mutant.operator.partition("_")[0]) for mutant in every(CODE)}
    assert (3, "NumberReplacer") in changed
    assert not any(operator == "ReplaceBinaryOperator" and line in (3, 4) for line, operator in changed)
    assert {line for line, _ in changed} >= {3, 4, 6, 7, 8, 11}


def test_the_changed_lines_are_told() -> None:
    (mutant,) = [mutant for mutant in every(CODE) if mutant.after == "if value < low or LIMIT:"]
    assert (mutant.before, list(mutant.lines)) == ("if value < low and LIMIT:", [7])


def test_a_sample_is_the_same_for_a_seed_and_never_twice_at_a_place() -> None:
    first = mutants.sample({"windows": CODE}, 8, seed=1)
    assert len(first) == 8
    assert first == mutants.sample({"windows": CODE}, 8, seed=1)
    assert first != mutants.sample({"windows": CODE}, 8, seed=2)
    assert len({(mutant.before, mutant.after) for mutant in first}) == 8
    assert len(mutants.sample({"windows": CODE}, 10_000, seed=1)) < 30


def test_the_table_counts_equivalent_ones_apart() -> None:
    mutant = Mutant("run_lock", "AddNot", range(1, 2), "if a:", "if not a:", "")
    other = Mutant("destination", "AddNot", range(1, 2), "if b:", "if not b:", "")
    outcomes = [
        Outcome(mutant, True, None),
        Outcome(mutant, True, None),
        Outcome(mutant, False, "why"),
        Outcome(other, False, None),
    ]
    text, share = mutants.report(outcomes)
    assert "| destination | 1 | 0 | 1 | 0 | 0% |" in text
    assert "| run_lock | 3 | 2 | 0 | 1 | 100% |" in text
    assert text.splitlines()[-1] == "| all | 4 | 2 | 1 | 1 | 67% |"
    assert share == pytest.approx(2 / 3)


def test_an_equivalent_mutant_is_known_by_its_line_before_and_after() -> None:
    mutant = Mutant("run_lock", "AddNot", range(1, 2), "if a:", "if not a:", "")
    entry = {"module": "run_lock", "before": "if a:", "after": "if not a:", "reason": "it is so"}
    assert mutants.equivalent(mutant, [entry]) == "it is so"
    for change in ({"module": "destination"}, {"before": "if b:"}, {"after": "if a is a:"}):
        assert mutants.equivalent(mutant, [entry | change]) is None


def test_every_module_that_is_mutated_exists() -> None:
    assert len(mutants.MODULES) == 20
    for path in mutants.MODULES.values():
        assert (mutants.ROOT / path).is_file()
