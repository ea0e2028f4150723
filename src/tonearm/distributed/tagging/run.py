"""One run, and the executions of Ray Data that it is cut into: what is done in which order, and noted of it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from tonearm import __version__
from tonearm.planning import adoption
from tonearm.planning.layout import Layout
from tonearm.runs import groups
from tonearm.runs.counts import WindowCounts
from tonearm.runs.destination import Destination
from tonearm.runs.groups import Group
from tonearm.runs.lock import run_lock
from tonearm.runs.todo import TodoPart
from tonearm.settings import TagSettings
from tonearm.tagging import RunFacts, TagPlan, model_names

# Blocks of one execution: enough that starting its actors (10 s) and draining it count for little.
EXECUTION_BLOCKS = 1500
EXECUTION_BLOCKS_PER_SCORER = 200


def tracks_per_execution(per_block: int, num_scorers: int) -> int:
    """Return how many tracks one execution takes on at least."""
    return per_block * max(EXECUTION_BLOCKS, EXECUTION_BLOCKS_PER_SCORER * num_scorers)


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run is: all that its parts share.

    ``groups`` are those of the destination, the run's own as far as they are settled; ``term`` is what its rows say,
    which is the lock's unless somebody deleted the lock's claims and with them their count; ``again`` are heads whose
    columns stand there by settings that count no more.
    """

    run_id: str
    hold: run_lock.Hold
    destination: Destination
    settings: TagSettings
    plan: TagPlan
    groups: Mapping[str, Group]
    term: int = 0
    again: tuple[str, ...] = ()


def run_facts(run: Run) -> RunFacts:
    """Return what every row says about the run that makes it."""
    hashes = {name: group.hash for name, group in run.groups.items()}
    adopts = frozenset(name for name, group in run.groups.items() if group.adopts)
    models = model_names(run.plan.heads)
    return RunFacts(run.run_id, __version__, models, term=run.term, settings=hashes, adopts=adopts)


def execute_in_turn(
    run: Run,
    plan: TagPlan,
    todo: Sequence[TodoPart],
    per_execution: int,
    execute: Callable[[Run, Sequence[TodoPart], str], None],
) -> Run:
    """Write down what is settled, then do what is left to do; return the run as it was settled.

    Args:
        plan: settled.
        per_execution: tracks of one execution; see ``executions``.
        execute: does the parts of one, with its marks in the folder of the given name; called only while the lock is
            the run's.
    """
    groups_there = adoption.settled(plan, run.groups, dict.fromkeys(run.again, run.term))
    run = dataclasses.replace(run, plan=plan, groups=groups_there)
    marks = groups.write(run.destination, run.groups)
    for parts in executions(todo, per_execution):
        run.hold.check()
        execute(run, parts, marks)
    return run


def note_runtimes(
    run: Run, described: Mapping[str, Mapping[str, str]], routed: Mapping[str, WindowCounts] | None = None
) -> Run:
    """Write down the runtimes that the workers had, and the windows they sent on; return the run with them."""
    run = dataclasses.replace(run, groups=adoption.noted(run.groups, described, routed))
    groups.write(run.destination, run.groups)
    return run


def tracks_per_block(num_tracks: int, layout: Layout) -> int:
    """Return how many tracks share a block, and so a file and a mark: 2 to 64."""
    # Small enough that a killed run loses little and that every worker has blocks to take, large enough that a
    # million tracks do not become a million files.
    return int(min(64, max(2, math.ceil(num_tracks / (8 * (layout.num_cpus + layout.num_scorers))))))


def executions(todo: Sequence[TodoPart], num_tracks: int) -> Iterator[list[TodoPart]]:
    """Yield the parts in groups of ``num_tracks`` or a little more.

    All parts of a group are for the same heads.
    """
    # One execution has one plan and one schema of rows, so parts for other heads begin another.
    for _, alike in itertools.groupby(todo, key=lambda part: (part.heads, part.again)):
        parts: list[TodoPart] = []
        for part in alike:
            parts.append(part)
            # Ray Data keeps some 60 KB per block on the driver until an execution ends: one execution over a million
            # tracks takes a gigabyte, and one over a hundred million does not fit.
            if sum(part.num_tracks for part in parts) >= num_tracks:
                yield parts
                parts = []
        if parts:
            yield parts
