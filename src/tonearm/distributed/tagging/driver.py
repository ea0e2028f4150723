"""Tagging a library on Ray Data.

::

    manifest/*.parquet ─ rows per block ─ decode_tracks ─ ScoreTracks ─ tracks/*.parquet
                                          CPU tasks       actors        with two-phase checkpoint marks

Resume is exact because a row never changes its block on the way: one track in, one row out. What is done is read from
the finished files before Ray starts, so a finished run costs no cluster, and no filter actor takes part in the run.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tonearm import __version__
from tonearm.distributed.cluster import session
from tonearm.distributed.tagging import plans
from tonearm.distributed.tagging.watch import (
    ClusterGuard,
    Guard,
    HeadGuard,
    Recorder,
    StoreGuard,
    Verdict,
    Watcher,
    failing,
    watching,
)
from tonearm.errors import Incomplete, Stopped
from tonearm.planning import adoption
from tonearm.runs import compaction, groups, resume
from tonearm.runs.destination import Destination, among
from tonearm.runs.groups import Group
from tonearm.runs.lock import run_lock
from tonearm.runs.manifest import manifest
from tonearm.runs.resume import Audit, TodoPart
from tonearm.settings import TagSettings
from tonearm.storage.uris import shown
from tonearm.tagging import HeadPlan, RunFacts, TagPlan, model_names
from tonearm.wording import counted

# Blocks of one execution: enough that starting its actors (10 s) and draining it count for little.
LEG_BLOCKS = 1500
LEG_BLOCKS_A_SCORER = 200


@dataclasses.dataclass(frozen=True)
class Stages:
    """What runs on the workers. Benchmarks of everything else put stubs in their place.

    Attributes:
        reader: where bytes come from; None for ``objects.ObjectReader``.
        scorer: ``stages.ScoreTracks`` or one made like it; None for that.
    """

    reader: Any = None
    scorer: type | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended. ``counts`` is None when there was nothing to do."""

    run_id: str
    audit: Audit
    num_done_before: int
    num_skipped: dict[str, int]
    num_bytes: int
    plans: dict[str, HeadPlan]
    started: datetime.datetime
    wall_s: float
    layout: session.Layout | None
    counts: Any
    spilled_bytes: int = 0
    fetch_concurrency: int = 1


def run_facts(run: Run) -> RunFacts:
    """Return what every row says about the run that makes it."""
    hashes = {name: group.hash for name, group in run.groups.items()}
    adopts = frozenset(name for name, group in run.groups.items() if group.adopts)
    models = model_names(run.plan.heads)
    return RunFacts(run.run_id, __version__, models, term=run.term, settings=hashes, adopts=adopts)


def tag_library(
    sources: Sequence[str],
    out: str,
    settings: TagSettings,
    watcher: Watcher,
    *,
    retry_errors: bool = False,
    rescore: Sequence[str] = (),
    stages: Stages = Stages(),
) -> Outcome:
    """Tag every track of ``sources`` that ``out`` does not hold yet, and add the groups of columns that rows lack.

    Args:
        rescore: groups whose columns are made again where their rows were made with other settings; the same call
            goes on where it was interrupted, and is done when all rows are made again.

    Raises:
        UsageError: a source, checkpoint, destination or cluster that cannot be used.
        Stopped: the run ended early; the same call goes on from there.
        Incomplete: a listed track has no row.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    destination = Destination.of(out)
    plans.check_runtime(settings.models)
    plan = adoption.planned(settings.models, settings.max_windows, settings.decode.max_scored_s)
    run_id = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}-{uuid.uuid4().hex[:4]}"
    with (
        run_lock.held(destination, waiting=watcher.waiting) as hold,
        Recorder(destination, run_id, started, watcher, hold) as recorder,
    ):
        compaction.recover(destination, check=hold.check)
        plan, held = adoption.adopt(destination, plan, settings.max_windows, rescore)
        run = Run(run_id, hold, destination, settings, plan, held, stages)
        return _tag(run, sources, recorder, started, clock, retry_errors=retry_errors)


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
    stages: Stages
    term: int = 0
    again: tuple[str, ...] = ()


def _tag(
    run: Run,
    sources: Sequence[str],
    watcher: Watcher,
    started: datetime.datetime,
    clock: float,
    *,
    retry_errors: bool,
) -> Outcome:
    destination, heads = run.destination, list(run.plan.heads)
    limit = run.settings.limit
    listed = manifest.write_manifest(
        sources,
        destination.manifest,
        limit=limit,
        progress=watcher.listing,
        term=run.hold.term,
        check=run.hold.check,
    )
    for source in listed.empty:
        watcher.waiting(f"{shown(source)} lists no track today; what it listed before stays")
    keys = manifest.listing_keys(listed)
    columns = [each.head for each in run.plan.heads.values()]
    found = resume.find(destination, run.groups, columns)
    again = found.again(keys, heads, retry_errors=retry_errors)
    rescored = tuple(head for head in heads if head not in run.groups and found.had[head].any())
    run = dataclasses.replace(run, term=max(run.hold.term, found.highest_term + 1), again=rescored)
    standing = np.sort(found.keys[found.counts])
    num_done = int(np.count_nonzero(among(keys, standing))) - sum(each.num_tracks for each in again)
    layout, counts, spilled_bytes = None, None, 0
    if num_done < len(keys):
        run = dataclasses.replace(
            run,
            plan=plans.prepared(run.plan, run.settings, manifest.read_tracks(listed), watcher),
        )
        watcher.starting(len(keys), num_done)
        todo = resume.write_todo(destination, listed.parts, standing, check=run.hold.check)
        todo += resume.write_again(destination, again)
        run, layout, counts, spilled_bytes = _execute(run, todo, watcher)
        found = resume.find(destination, run.groups, columns)
    run.hold.check()
    compaction.mend(destination, found.outranked(), check=run.hold.check)
    audit = dataclasses.replace(found.audit(keys, heads), num_outranked=0)
    outcome = Outcome(
        run.run_id,
        audit,
        num_done,
        dict(listed.skipped),
        listed.num_bytes,
        dict(run.plan.heads),
        started,
        time.monotonic() - clock,
        layout,
        counts,
        spilled_bytes,
        run.settings.fetch.concurrency,
    )
    if not audit.is_exact:
        raise Incomplete(
            f"the audit of {destination.url} found {counted(audit.num_missing, 'listed track')} without a row, "
            "expected one each; run the same command again, and report this if it stays"
        )
    return outcome


def _execute(run: Run, todo: Sequence[TodoPart], watcher: Watcher) -> tuple[Run, session.Layout, Any, int]:
    """Do what is left to do; return the run as it was settled, the layout, the counts and the bytes spilled."""
    settings, place = run.settings, run.destination.url
    with session.session(settings.workers, verbose=settings.verbose) as layout:
        import ray

        from tonearm.distributed.tagging.counters import start_tally

        tally = start_tally()
        num_todo = sum(part.num_tracks for part in todo)
        per_block = settings.tracks_per_block or tracks_per_block(num_todo, layout)
        before = session.spilled_bytes()
        plan = plans.settled(run.plan, layout)
        forms = plans.shipped_forms(plan, layout)
        verdict = Verdict(tally)
        guards: list[Guard] = [ClusterGuard(verdict, layout, settings.cluster.shrunk_timeout_s)]
        if run.stages.reader is None:
            guards.append(StoreGuard(verdict, todo, settings.fetch))
        head = HeadGuard(verdict, place, settings.cluster.head_timeout_s)

        def stop(failure: Stopped) -> None:
            verdict.fail(failure, wake=True)

        def execute(run: Run, leg: Sequence[TodoPart], marks: str) -> None:
            _execute_leg(run, leg, layout, per_block, tally, forms, marks)

        per_leg = per_block * max(LEG_BLOCKS, LEG_BLOCKS_A_SCORER * layout.num_scorers)
        with failing(place, verdict), watching(tally, watcher, guards, head), run.hold.on_lost(stop):
            run = execute_legs(run, plan, todo, per_leg, execute)
        counts = ray.get(tally.read.remote())
        return note_runtimes(run, counts.facts), layout, counts, session.spilled_bytes() - before


def execute_legs(
    run: Run,
    plan: TagPlan,
    todo: Sequence[TodoPart],
    per_leg: int,
    execute: Callable[[Run, Sequence[TodoPart], str], None],
) -> Run:
    """Write down what is settled, then do what is left to do; return the run as it was settled.

    Args:
        plan: settled.
        per_leg: tracks of one leg; see ``legs``.
        execute: does one leg, with its marks in the folder of the given name; called only while the lock is the run's.
    """
    groups_there = adoption.settled(plan, run.groups, dict.fromkeys(run.again, run.term))
    run = dataclasses.replace(run, plan=plan, groups=groups_there)
    marks = groups.write(run.destination, run.groups)
    for leg in legs(todo, per_leg):
        run.hold.check()
        execute(run, leg, marks)
    return run


def note_runtimes(run: Run, described: Mapping[str, Mapping[str, str]]) -> Run:
    """Write down the runtimes that the workers had; return the run with them."""
    run = dataclasses.replace(run, groups=adoption.noted(run.groups, described))
    groups.write(run.destination, run.groups)
    return run


def tracks_per_block(num_tracks: int, layout: session.Layout) -> int:
    """Return how many tracks share a block, and so a file and a checkpoint mark.

    Small enough that a killed run loses little and that every worker has blocks to take, large enough that a million
    tracks do not become a million files.
    """
    return int(min(64, max(2, math.ceil(num_tracks / (8 * (layout.num_cpus + layout.num_scorers))))))


def legs(todo: Sequence[TodoPart], num_tracks: int) -> Iterator[list[TodoPart]]:
    """Yield the parts in groups of ``num_tracks`` or a little more.

    Ray Data keeps some 60 KB a block on the driver until an execution ends: one execution over a million tracks takes a
    gigabyte, one over a hundred million does not fit. A leg ends with its last block, so it is long beside the time
    that its actors take to start and its last blocks take to drain. A leg has one set of heads and one schema.
    """
    for _, parts in itertools.groupby(todo, key=lambda part: (part.heads, part.again)):
        leg: list[TodoPart] = []
        for part in parts:
            leg.append(part)
            if sum(part.num_tracks for part in leg) >= num_tracks:
                yield leg
                leg = []
        if leg:
            yield leg


def _execute_leg(
    run: Run,
    leg: Sequence[TodoPart],
    layout: session.Layout,
    per_block: int,
    tally: Any,
    forms: dict[str, Any],
    marks: str,
) -> None:
    import ray.data

    from tonearm.distributed.tagging.marks import checkpoint_config
    from tonearm.distributed.tagging.stages import ScoreTracks, TracksSink

    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = run.settings.verbose
    destination = run.destination
    root, below = destination.rooted(), destination.below
    context.checkpoint_config = checkpoint_config(root, below(destination.checkpoint(marks)))
    context.max_errored_blocks = 0
    context.use_datasource_v2 = False  # whose readers of footers are four more processes to start
    with ray.data.DataContext.current(context):
        root.create_dir(below(destination.tracks), recursive=True)
        paths = [below(part.url) for part in leg]
        # A block a part: Ray's own number would cut them smaller than files of rows are to be.
        listed = ray.data.read_parquet(paths, filesystem=root, override_num_blocks=len(paths))
        listed = listed.repartition(target_num_rows_per_block=per_block)
        plan = run.plan.only(leg[0].heads) if leg[0].heads else run.plan
        facts, scorer = run_facts(run), run.stages.scorer or ScoreTracks
        reader = run.stages.reader
        rows = scored(listed, scorer, run.settings, plan, facts, layout, tally, reader=reader, forms=forms)
        rows.write_datasink(TracksSink(below(destination.tracks), tally, root))


def scored(
    listed: Any,
    scorer: type,
    settings: TagSettings,
    plan: TagPlan,
    facts: RunFacts,
    layout: session.Layout,
    tally: Any,
    *,
    reader: Any = None,
    forms: dict[str, Any] | None = None,
) -> Any:
    """Return the data set of what ``scorer`` says of the listed tracks, a row a track.

    Args:
        listed: a data set of manifest rows, its blocks as large as files are to be.
        scorer, reader: see ``Stages``.
        forms: see ``stages.ScoreTracks``.
    """
    import ray.data

    from tonearm.distributed.tagging.stages import decode_tracks

    decoded = listed.map_batches(
        decode_tracks,
        fn_kwargs={
            "request": plan.decode_request(),
            "fetch": settings.fetch,
            "decode": settings.decode,
            "tally": tally,
            "reader": reader,
        },
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=1,
    )
    # Blocks as they come, on a GPU too: map_batches demands a number of rows there, and would wait for as many.
    return decoded.map_batches_internal(
        scorer,
        fn_constructor_kwargs={
            "plan": plan,
            "facts": facts,
            "num_threads": layout.scorer_threads,
            "tally": tally,
            **({"forms": forms} if forms else {}),
        },
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=layout.scorer_cpus,
        num_gpus=layout.scorer_gpus or None,
        compute=ray.data.ActorPoolStrategy(size=layout.num_scorers),
    )
