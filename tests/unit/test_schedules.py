"""Destinations under several writers and readers at once: what a simulation of them may never show.

Each schedule is a library that changes, runs over its sources with changing groups of columns, compactions, prunes and
readers, on machines whose clocks differ. Their store fails, is late and lets requests overtake each other; they are
suspended and killed at any step. All of it is the library's own code but for scoring, and all of it is decided by a
seed: ``schedules.run(SEED)`` repeats a schedule that has failed.
"""

from __future__ import annotations

import os
import re

import pytest

from tests.simulation import faults, schedules
from tests.simulation.schedules import Failed

# A schedule takes a fifth of a second.
NUM_QUICK, NUM_SEEDED, NUM_CHUNKS, NUM_TRIED = 60, 1000, 10, 400
EVERY = {**faults.WRITERS, **faults.LATE}


def check(seeds: range) -> None:
    outcomes = [schedules.run(seed) for seed in seeds]  # which raises what is wrong
    # A simulation in which nothing comes to an end would find nothing either.
    assert sum(outcome.num_complete for outcome in outcomes) > len(seeds)
    assert sum(outcome.num_reads for outcome in outcomes) > 2 * len(seeds)
    assert sum(outcome.ended.get("Stopped", 0) for outcome in outcomes) > len(seeds) // 20


def test_no_schedule_shows_a_row_twice_or_loses_one() -> None:
    check(range(NUM_QUICK))


def test_a_schedule_is_decided_by_its_seed() -> None:
    first, again = schedules.run(7), schedules.run(7)
    assert first == again
    assert first.num_reads and first.num_complete and len(first.told) > 50


@pytest.mark.slow
@pytest.mark.skipif(
    "TONEARM_SCHEDULES" not in os.environ, reason="a thousand schedules take minutes; run `make schedules`"
)
@pytest.mark.parametrize("chunk", range(NUM_CHUNKS))
def test_no_fault_in_a_thousand_schedules(chunk: int) -> None:
    """A thousand schedules of writers, readers and faults: one row for each listed track, and none lost."""
    each = NUM_SEEDED // NUM_CHUNKS
    check(range(chunk * each, (chunk + 1) * each))


@pytest.mark.parametrize("name", sorted(faults.SEEDS))
def test_a_fault_is_found_when_it_is_put_back(name: str) -> None:
    """What doubled, hid and lost rows before, and what lands late where it is not made harmless: a schedule shows it.

    From its recorded seed on: that one alone as long as the library takes the same steps.
    """
    seed = faults.SEEDS[name]
    for tried in range(seed, seed + NUM_TRIED):
        try:
            schedules.run(tried, change=EVERY[name])
        except Failed as failed:
            first, *steps = str(failed).splitlines()
            assert first.startswith(f"seed {tried}: ")
            assert any(re.match(r" *\d+\.\d\d s  .+", step) for step in steps), "it tells its steps"
            return
    pytest.fail(f"none of {NUM_TRIED} schedules shows it")
