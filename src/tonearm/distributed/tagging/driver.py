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
import time
import uuid
from collections.abc import Sequence

import numpy as np

from tonearm.distributed.tagging import plans
from tonearm.distributed.tagging.run import Run
from tonearm.errors import Incomplete
from tonearm.planning import adoption
from tonearm.planning.preparation import check_quantizer
from tonearm.planning.summary import Execution, Outcome
from tonearm.runs import compaction, resume, todo
from tonearm.runs.destination import Destination
from tonearm.runs.lock import run_lock
from tonearm.runs.manifest import manifest
from tonearm.runs.progress import ProgressFile
from tonearm.runs.rows.ranking import among
from tonearm.runs.todo import TodoPart
from tonearm.settings import TagSettings
from tonearm.storage.uris import shown
from tonearm.tagging.fallbacks import other_teachers
from tonearm.watchers import Watcher
from tonearm.wording import counted


def tag_library(
    sources: Sequence[str],
    out: str,
    settings: TagSettings,
    watcher: Watcher,
    *,
    retry_errors: bool = False,
    rescore: Sequence[str] = (),
) -> Outcome:
    """Tag every track of ``sources`` that ``out`` does not hold yet, and add the groups of columns that rows lack.

    Args:
        rescore: groups whose columns are made again where their rows were made with other settings; the same call
            resumes where it was interrupted, and is done when all rows are made again.

    Raises:
        UsageError: a source, checkpoint, destination or cluster that cannot be used.
        Stopped: the run ended early; the same call resumes there.
        Incomplete: a listed track has no row.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    destination = Destination.of(out)
    plans.check_runtime(settings.models)
    plan = adoption.planned(
        settings.models, settings.max_windows, settings.decode.max_scored_s, fallback=settings.fallback
    )
    check_quantizer(plan)
    for line in [*plans.refused_claims(plan, sources), *other_teachers(plan)]:
        watcher.waiting(line)
    run_id = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}-{uuid.uuid4().hex[:4]}"
    with (
        run_lock.held(destination, waiting=watcher.waiting) as hold,
        ProgressFile(destination, run_id, started, watcher, hold) as recorder,
    ):
        compaction.recover(destination, check=hold.check)
        adopted = adoption.adopt(destination, plan, settings.max_windows, rescore)
        run = Run(run_id, hold, destination, settings, adopted.plan, adopted.groups)
        return _tag(run, sources, recorder, started, clock, retry_errors=retry_errors)


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
    columns = [head_plan.head for head_plan in run.plan.heads.values()]
    rows_there = resume.read_rows(destination, run.groups, columns)
    rewrites = rows_there.rewrites(listed.keys, heads, retry_errors=retry_errors)
    rescored = tuple(head for head in heads if head not in run.groups and rows_there.had[head].any())
    run = dataclasses.replace(run, term=max(run.hold.term, rows_there.highest_term + 1), again=rescored)
    standing = np.sort(rows_there.keys[rows_there.counts])
    num_done = int(np.count_nonzero(among(listed.keys, standing))) - sum(rewrite.num_tracks for rewrite in rewrites)
    execution = None
    if num_done < len(listed.keys):
        run = dataclasses.replace(
            run,
            plan=plans.prepared(run.plan, run.settings, listed.tracks(), watcher),
        )
        watcher.starting(len(listed.keys), num_done)
        parts = todo.write_todo(destination, listed.parts, standing, check=run.hold.check)
        parts += todo.write_rewrites(destination, rewrites)
        run, execution = _execute(run, parts, watcher)
        rows_there = resume.read_rows(destination, run.groups, columns)
    run.hold.check()
    compaction.mend(destination, rows_there.outranked(), check=run.hold.check)
    audit = dataclasses.replace(rows_there.audit(listed.keys, heads), num_outranked=0)
    outcome = Outcome(
        run_id=run.run_id,
        audit=audit,
        num_done_before=num_done,
        num_skipped=dict(listed.skipped),
        num_bytes=listed.num_bytes,
        plans=dict(run.plan.heads),
        started=started,
        wall_s=time.monotonic() - clock,
        fetch_concurrency=run.settings.fetch.concurrency,
        execution=execution,
    )
    if not audit.is_exact:
        raise Incomplete(
            f"the audit of {destination.url} found {counted(audit.num_missing, 'listed track')} without a row, "
            "expected one each; run the same command again, and report this if it stays"
        )
    return outcome


def _execute(run: Run, todo: Sequence[TodoPart], watcher: Watcher) -> tuple[Run, Execution | None]:
    """Do what is left to do; return the run as it was settled, and what its execution was."""
    from tonearm.distributed.tagging import execution  # a finished run costs no Ray

    return execution.execute(run, todo, watcher)
