"""Tagging a library on Ray Data.

::

    manifest/*.parquet ─ rows per block ─ decode_tracks ─ ScoreTracks ─ tracks/*.parquet
                                          CPU tasks       actors        with two-phase checkpoint marks

Resume is exact because a row never changes its block on the way: one track in, one row out. What is done is read from
the finished files before Ray starts, so a finished run costs no cluster, and no filter actor takes part in the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import math
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tonearm import __version__
from tonearm.distributed import cluster
from tonearm.errors import DestinationError, Incomplete, Stopped, TonearmError
from tonearm.library import lock, manifest, runs, stores
from tonearm.library.runs import Audit, Destination
from tonearm.settings import ModelSettings, TagSettings
from tonearm.tagging import HeadPlan, RunFacts, decode_request, model_columns, plan_heads


class Watcher(Protocol):
    """Who is told how the run goes; the terminal's progress line, or a test."""

    def waiting(self, why: str) -> None: ...
    def listing(self, num_tracks: int) -> None: ...
    def starting(self, num_tracks: int, num_done: int) -> None: ...
    def progress(self, counts: Any) -> None: ...


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
    sources: Sequence[str], out: str, settings: TagSettings, watcher: Watcher, *, retry_errors: bool = False
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
    with lock.held(destination, waiting=watcher.waiting):
        return _tag(sources, destination, own, settings, plans, watcher, started, clock, retry_errors)


def _tag(
    sources: Sequence[str],
    destination: Destination,
    own: str,
    settings: TagSettings,
    plans: dict[str, HeadPlan],
    watcher: Watcher,
    started: datetime.datetime,
    clock: float,
    retry_errors: bool,
) -> Outcome:
    run_id = f"{started:%Y%m%dT%H%M%S}-{own[:6]}-{uuid.uuid4().hex[:4]}"
    listed = manifest.write_manifest(sources, destination.manifest, limit=settings.limit, progress=watcher.listing)
    keys = manifest.read_keys(destination.manifest)
    if retry_errors:
        runs.drop_failed(destination, own)
    done = np.intersect1d(runs.done_keys(destination, own), keys)
    layout = counts = None
    if len(done) < len(keys):
        watcher.starting(len(keys), len(done))
        todo = _todo(destination, listed.parts, done, keys)
        layout, counts = _run(todo, len(keys) - len(done), destination, own, settings, plans, run_id, watcher)
    audit = runs.audit(destination, own, keys)
    outcome = Outcome(
        run_id,
        own,
        audit,
        len(done),
        dict(listed.skipped),
        listed.num_bytes,
        plans,
        started,
        time.monotonic() - clock,
        layout,
        counts,
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


def _todo(destination: Destination, parts: Sequence[str], done: NDArray[np.int64], keys: NDArray[np.int64]) -> str:
    if not len(done):
        return destination.manifest
    folder = destination.join("_checkpoint", "todo")
    runs.write_todo(list(parts), done, folder)
    return folder


def _run(
    todo: str,
    num_todo: int,
    destination: Destination,
    own: str,
    settings: TagSettings,
    plans: dict[str, HeadPlan],
    run_id: str,
    watcher: Watcher,
) -> tuple[cluster.Layout, Any]:
    with cluster.session(settings.workers, verbose=settings.verbose) as layout:
        from tonearm.distributed.tally import start_tally

        tally = start_tally()
        per_block = settings.tracks_per_block or tracks_per_block(num_todo, layout)
        with failing(destination.url, tally), watching(tally, watcher):
            _execute(todo, destination, own, settings, plans, run_id, layout, per_block, tally)
        import ray

        return layout, ray.get(tally.read.remote())


def tracks_per_block(num_tracks: int, layout: cluster.Layout) -> int:
    """Return how many tracks share a block, and so a file and a checkpoint mark.

    Small enough that a killed run loses little and that every worker has blocks to take, large enough that a million
    tracks do not become a million files.
    """
    return int(min(64, max(2, math.ceil(num_tracks / (8 * (layout.num_cpus + layout.num_scorers))))))


def _execute(
    todo: str,
    destination: Destination,
    own: str,
    settings: TagSettings,
    plans: dict[str, HeadPlan],
    run_id: str,
    layout: cluster.Layout,
    per_block: int,
    tally: Any,
) -> None:
    import ray.data

    from tonearm.distributed.checkpoint import checkpoint_config
    from tonearm.distributed.stages import ScoreTracks

    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = settings.verbose
    context.checkpoint_config = checkpoint_config(destination.checkpoint(own))
    context.max_errored_blocks = 0
    with ray.data.DataContext.current(context):
        source, folder = stores.arrow_filesystem(todo)
        target, tracks = stores.arrow_filesystem(destination.tracks)
        target.create_dir(tracks, recursive=True)
        listed = ray.data.read_parquet(folder, filesystem=source, file_extensions=["parquet"])
        listed = listed.repartition(target_num_rows_per_block=per_block)
        rows = scored(listed, ScoreTracks, settings, plans, run_facts(plans, run_id), layout, tally)
        rows.write_parquet(tracks, filesystem=target, compression="zstd")


def scored(
    listed: Any,
    scorer: type,
    settings: TagSettings,
    plans: dict[str, HeadPlan],
    facts: RunFacts,
    layout: cluster.Layout,
    tally: Any,
) -> Any:
    """Return the data set of what ``scorer`` says of the listed tracks, a row a track.

    Args:
        listed: a data set of manifest rows, its blocks as large as files are to be.
        scorer: ``stages.ScoreTracks`` or one made like it.
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
        },
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=layout.scorer_cpus,
        num_gpus=layout.scorer_gpus or None,
        compute=ray.data.ActorPoolStrategy(size=layout.num_scorers),
    )


@contextlib.contextmanager
def watching(tally: Any, watcher: Watcher) -> Iterator[None]:
    import ray

    with cluster.polling(lambda: watcher.progress(ray.get(tally.read.remote(), timeout=5))):
        yield
        watcher.progress(ray.get(tally.read.remote()))


@contextlib.contextmanager
def failing(place: str, tally: Any) -> Iterator[None]:
    """Turn what stops a whole run into one line; every file already written stays."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"stopped; what is written in {place} stays. Run the same command to go on") from None
    except TonearmError:
        raise
    except Exception as error:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            failure = ray.get(tally.read.remote(), timeout=10).failure
            if failure is not None:
                raise failure from None
        raise _explain(error, place) from error


def _explain(error: Exception, place: str) -> TonearmError:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, TonearmError) and not isinstance(cause, DestinationError):
            return cause
        if getattr(cause, "errno", None) == errno.ENOSPC or "No space left on device" in str(cause):
            return Stopped(
                f"the disk under {place} or under Ray's temporary folder is full; the rows already written "
                "stay. Free some space and run the same command to go on"
            )
    lines = str(causes[-1]).strip().splitlines() or ["no message"]
    return Stopped(
        f"the run broke off: {type(causes[-1]).__name__}: {lines[-1]}; the rows already written in {place} "
        f"stay. Run the same command to go on; Ray's own words are in {cluster.log_path()}"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = getattr(current, "cause", None) or current.__cause__ or current.__context__
