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
import math
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tonearm import __version__
from tonearm.distributed import cluster
from tonearm.distributed.watch import (
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
from tonearm.library import compaction, lock, manifest, runs, stores
from tonearm.library.runs import Audit, Destination, TodoPart
from tonearm.models import converted
from tonearm.planning.preparation import prepare
from tonearm.settings import ModelSettings, TagSettings
from tonearm.tagging import HeadPlan, RunFacts, decode_request, model_columns, plan_heads

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
    fingerprint: str
    audit: Audit
    num_done_before: int
    num_skipped: dict[str, int]
    num_bytes: int
    plans: dict[str, HeadPlan]
    started: datetime.datetime
    wall_s: float
    layout: cluster.Layout | None
    counts: Any
    spilled_bytes: int = 0
    fetch_concurrency: int = 1


def run_facts(plans: dict[str, HeadPlan], run_id: str) -> RunFacts:
    """Return what every row says about the run that made it."""
    return RunFacts(run_id, __version__, **model_columns(plans))


def fingerprint_facts(plans: dict[str, HeadPlan], settings: TagSettings) -> dict[str, Any]:
    """Return all that decides a row's content, apart from the track itself."""
    facts: dict[str, Any] = {"precision": settings.models.precision, "max_scored_s": settings.decode.max_scored_s}
    facts |= {"top_tags": settings.models.top_tags, "top_window_tags": settings.models.top_window_tags}
    for head in ("genre", "tags"):
        if head in plans:
            facts[f"{head}_model"] = plans[head].checkpoint.revision
            facts[f"{head}_windows"] = dataclasses.asdict(plans[head].windows)
            calibration = plans[head].checkpoint.companion.calibration
            if settings.models.calibrated and calibration is not None:
                facts[f"{head}_calibration"] = dataclasses.asdict(calibration)
        else:
            facts[f"{head}_model"] = None
    return facts


def tag_library(
    sources: Sequence[str],
    out: str,
    settings: TagSettings,
    watcher: Watcher,
    *,
    retry_errors: bool = False,
    stages: Stages = Stages(),
) -> Outcome:
    """Tag every track of ``sources`` that ``out`` does not hold yet.

    Raises:
        UsageError: a source, checkpoint, destination or cluster that cannot be used.
        Stopped: the run ended early; the same call goes on from there.
        Incomplete: a listed track has no row, or two.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    _check_runtime(settings.models)
    plans = plan_heads(settings.models, max_windows=settings.max_windows, max_scored_s=settings.decode.max_scored_s)
    destination = Destination.of(out)
    own = runs.claim(destination, fingerprint_facts(plans, settings))
    run_id = f"{started:%Y%m%dT%H%M%S}-{own[:6]}-{uuid.uuid4().hex[:4]}"
    run = _Run(run_id, own, destination, settings, plans, stages)
    with (
        lock.held(destination, waiting=watcher.waiting) as hold,
        Recorder(destination, run_id, started, watcher) as recorder,
    ):
        compaction.recover(destination)
        return _tag(run, sources, recorder, started, clock, hold, retry_errors=retry_errors)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What one run is: all that its parts share."""

    run_id: str
    fingerprint: str
    destination: Destination
    settings: TagSettings
    plans: dict[str, HeadPlan]
    stages: Stages


def _tag(
    run: _Run,
    sources: Sequence[str],
    watcher: Watcher,
    started: datetime.datetime,
    clock: float,
    hold: lock.Hold,
    *,
    retry_errors: bool,
) -> Outcome:
    destination = run.destination
    limit = run.settings.limit
    listed = manifest.write_manifest(sources, destination.manifest, limit=limit, progress=watcher.listing)
    keys = manifest.read_keys(destination.manifest)
    found = runs.find_done(destination, keys, listed.parts, retry_errors=retry_errors)
    runs.drop(destination, found)
    done = np.intersect1d(np.setdiff1d(found.keys, found.again), keys)
    layout, counts, spilled_bytes = None, None, 0
    if len(done) < len(keys):
        if not os.environ.get("RAY_ADDRESS") or run.settings.models.precision == "int8":
            tracks = manifest.read_tracks(destination.manifest)
            run = dataclasses.replace(run, settings=prepare(run.plans, run.settings, tracks, watcher.waiting))
        watcher.starting(len(keys), len(done))
        layout, counts, spilled_bytes = _execute(run, runs.write_todo(destination, listed.parts, done), watcher, hold)
    # Opening every file a second time would double what a finished run takes to say so.
    audit = runs.audit(destination, keys) if counts is not None else found.audit
    outcome = Outcome(
        run.run_id,
        run.fingerprint,
        audit,
        len(done),
        dict(listed.skipped),
        listed.num_bytes,
        run.plans,
        started,
        time.monotonic() - clock,
        layout,
        counts,
        spilled_bytes,
        run.settings.fetch.concurrency,
    )
    if not audit.is_exact:
        raise Incomplete(
            f"the audit of {destination.url} found {audit.num_missing} listed tracks without a row and "
            f"{audit.num_doubled} with more than one, expected exactly one each; run the same command again, and "
            "report this if it stays"
        )
    return outcome


def _check_runtime(models: ModelSettings) -> None:
    """Refuse what this machine cannot run before anything is listed; a cluster's workers check for themselves."""
    if os.environ.get("RAY_ADDRESS"):
        return
    from tonearm.models.runtimes import choose

    choose(models.runtime, models.precision, None)


def _execute(run: _Run, todo: Sequence[TodoPart], watcher: Watcher, hold: lock.Hold) -> tuple[cluster.Layout, Any, int]:
    """Do what is left to do; return the layout, the counts and the bytes spilled."""
    settings, place = run.settings, run.destination.url
    with cluster.session(settings.workers, verbose=settings.verbose) as layout:
        import ray

        from tonearm.distributed.tally import start_tally

        tally = start_tally()
        num_todo = sum(part.num_tracks for part in todo)
        per_block = settings.tracks_per_block or tracks_per_block(num_todo, layout)
        before = cluster.spilled_bytes()
        forms = shipped_forms(run.settings, run.plans, layout)
        verdict = Verdict(tally)
        guards: list[Guard] = [ClusterGuard(verdict, layout, settings.cluster.shrunk_timeout_s)]
        if run.stages.reader is None:
            guards.append(StoreGuard(verdict, todo, settings.fetch))
        head = HeadGuard(verdict, place, settings.cluster.head_timeout_s)

        def stop(failure: Stopped) -> None:
            verdict.fail(failure, wake=True)

        with failing(place, verdict), watching(tally, watcher, guards, head), hold.on_lost(stop):
            for leg in legs(todo, per_block * max(LEG_BLOCKS, LEG_BLOCKS_A_SCORER * layout.num_scorers)):
                hold.check()
                _execute_leg(run, leg, layout, per_block, tally, forms)
        return layout, ray.get(tally.read.remote()), cluster.spilled_bytes() - before


def shipped_forms(settings: TagSettings, plans: dict[str, HeadPlan], layout: cluster.Layout) -> dict[str, Any]:
    """Return the quantized checkpoints that this machine has made, where scoring workers elsewhere need them."""
    import ray

    if layout.is_local or layout.scorer_gpus or settings.models.precision != "int8":
        return {}
    packed = {}
    for plan in plans.values():
        found = converted.find_cached(plan.checkpoint.revision)
        if found is not None:
            packed[plan.checkpoint.revision] = ray.put(converted.pack(found))
    return packed


def tracks_per_block(num_tracks: int, layout: cluster.Layout) -> int:
    """Return how many tracks share a block, and so a file and a checkpoint mark.

    Small enough that a killed run loses little and that every worker has blocks to take, large enough that a million
    tracks do not become a million files.
    """
    return int(min(64, max(2, math.ceil(num_tracks / (8 * (layout.num_cpus + layout.num_scorers))))))


def legs(todo: Sequence[TodoPart], num_tracks: int) -> Iterator[list[TodoPart]]:
    """Yield the parts in groups of ``num_tracks`` or a little more.

    Ray Data keeps some 60 KB a block on the driver until an execution ends: one execution over a million tracks takes a
    gigabyte, one over a hundred million does not fit. A leg ends with its last block, so it is long beside the time
    that its actors take to start and its last blocks take to drain.
    """
    leg: list[TodoPart] = []
    for part in todo:
        leg.append(part)
        if sum(part.num_tracks for part in leg) >= num_tracks:
            yield leg
            leg = []
    if leg:
        yield leg


def _execute_leg(
    run: _Run, leg: Sequence[TodoPart], layout: cluster.Layout, per_block: int, tally: Any, forms: dict[str, Any]
) -> None:
    import ray.data

    from tonearm.distributed.checkpoint import checkpoint_config
    from tonearm.distributed.stages import ScoreTracks, TracksSink

    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = run.settings.verbose
    context.checkpoint_config = checkpoint_config(run.destination.checkpoint(run.fingerprint))
    context.max_errored_blocks = 0
    context.use_datasource_v2 = False  # whose readers of footers are four more processes to start
    with ray.data.DataContext.current(context):
        source, _ = stores.arrow_filesystem(leg[0].url)
        paths = [stores.arrow_filesystem(part.url)[1] for part in leg]
        target, tracks = stores.arrow_filesystem(run.destination.tracks)
        target.create_dir(tracks, recursive=True)
        # A block a part: Ray's own number would cut them smaller than files of rows are to be.
        listed = ray.data.read_parquet(paths, filesystem=source, override_num_blocks=len(paths))
        listed = listed.repartition(target_num_rows_per_block=per_block)
        facts, scorer = run_facts(run.plans, run.run_id), run.stages.scorer or ScoreTracks
        reader = run.stages.reader
        rows = scored(listed, scorer, run.settings, run.plans, facts, layout, tally, reader=reader, forms=forms)
        rows.write_datasink(TracksSink(tracks, tally, target))


def scored(
    listed: Any,
    scorer: type,
    settings: TagSettings,
    plans: dict[str, HeadPlan],
    facts: RunFacts,
    layout: cluster.Layout,
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

    from tonearm.distributed.stages import decode_tracks

    return listed.map_batches(
        decode_tracks,
        fn_kwargs={
            "request": decode_request(plans, settings.decode.max_scored_s),
            "fetch": settings.fetch,
            "decode": settings.decode,
            "tally": tally,
            "reader": reader,
        },
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=1,
    ).map_batches(
        scorer,
        fn_constructor_kwargs={
            "models": settings.models,
            "max_windows": settings.max_windows,
            "max_scored_s": settings.decode.max_scored_s,
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
