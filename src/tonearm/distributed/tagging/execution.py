"""Executing a run on Ray; imported where something is left to do, as Ray takes a second to import."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from tonearm.distributed.cluster import session
from tonearm.distributed.tagging import card_check, plans
from tonearm.distributed.tagging.counters import RunCounters, counting
from tonearm.distributed.tagging.run import Run, execute_in_turn, note_runtimes, tracks_per_block, tracks_per_execution
from tonearm.distributed.tagging.watch import (
    ClusterGuard,
    Guard,
    RayHeadGuard,
    RunFailure,
    StoreGuard,
    explain_failures,
    report_progress,
)
from tonearm.errors import Stopped
from tonearm.planning.layout import Layout
from tonearm.planning.summary import Execution
from tonearm.runs.todo import TodoPart
from tonearm.watchers import Watcher


def execute(run: Run, todo: Sequence[TodoPart], watcher: Watcher) -> tuple[Run, Execution]:
    """Do what is left to do; return the run as it was settled, and what its execution was."""
    settings = run.settings
    with session.session(settings.workers, verbose=settings.verbose) as layout, counting() as counters:
        # Not at the top: Ray Data takes a second to import, and ``session`` imports it while Ray's processes start.
        from tonearm.distributed.tagging import pipeline

        before = session.spilled_bytes()
        per_block = settings.tracks_per_block or tracks_per_block(sum(part.num_tracks for part in todo), layout)
        plan = card_check.settled(plans.settled(run.plan, layout), run.groups, layout, watcher.waiting)
        operators = pipeline.Operators.of(plan, settings, layout, counters)

        def execute_once(run: Run, parts: Sequence[TodoPart], marks: str) -> None:
            pipeline.execute_once(run, parts, operators, per_block, marks)

        with _guarded(run, todo, layout, counters, watcher):
            run = execute_in_turn(run, plan, todo, tracks_per_execution(per_block, layout.num_scorers), execute_once)
        counts = counters.read()
        run = note_runtimes(run, counts.facts, counts.routed)
        return run, Execution(layout, counts, session.spilled_bytes() - before)


@contextlib.contextmanager
def _guarded(
    run: Run, todo: Sequence[TodoPart], layout: Layout, counters: RunCounters, watcher: Watcher
) -> Iterator[None]:
    """Tell ``watcher`` how it goes while the block runs, and end it in one line when something is wrong with it all."""
    settings, place = run.settings, run.destination.url
    run_failure = RunFailure(counters)
    guards: list[Guard] = [
        ClusterGuard(run_failure, layout, settings.cluster.shrunk_timeout_s),
        StoreGuard(run_failure, todo, settings.fetch),
    ]
    ray_head = RayHeadGuard(run_failure, place, settings.cluster.head_timeout_s)

    def stop(failure: Stopped) -> None:
        run_failure.fail(failure, wake=True)

    with (
        explain_failures(place, run_failure),
        report_progress(counters, watcher, guards, ray_head),
        run.hold.on_lost(stop),
    ):
        yield
