"""Clips decoded and scored on Ray Data, as tagging does it: what ``evaluate`` judges and ``distill`` teaches by."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pyarrow as pa

from tonearm.distributed.cluster import session
from tonearm.distributed.tagging import plans
from tonearm.distributed.tagging.counters import counting
from tonearm.distributed.tagging.run import tracks_per_block
from tonearm.distributed.tagging.watch import RunFailure, explain_failures, report_progress
from tonearm.runs.manifest import manifest
from tonearm.runs.places import KEY
from tonearm.settings import TagSettings
from tonearm.sources.track_ref import TrackRef
from tonearm.tagging import TagPlan
from tonearm.watchers import Watcher


def score_clips(refs: Sequence[TrackRef], settings: TagSettings, plan: TagPlan, watcher: Watcher) -> dict[int, Any]:
    """Return a row of ``stages.LOGITS`` per track, by its key."""
    watcher.starting(len(refs), 0)
    blocks = score_blocks(refs, settings, plan, watcher, what="the evaluation")
    return {row[KEY]: row for block in blocks for row in block.to_pylist()}


def score_blocks(
    refs: Sequence[TrackRef], settings: TagSettings, plan: TagPlan, watcher: Watcher, *, what: str
) -> Generator[pa.Table]:
    """Yield the same rows in blocks, each as soon as it is there.

    Args:
        what: what messages call the whole.
    """
    listed = manifest.to_table(list(refs))
    plan = plans.prepared(plan, settings, refs, watcher)
    with session.session(settings.workers, verbose=settings.verbose) as layout, counting() as counters:
        # Not at the top: Ray Data takes a second to import, and ``session`` imports it while Ray's processes start.
        from tonearm.distributed.tagging import pipeline

        with (
            pipeline.context(settings, layout),
            explain_failures(what, RunFailure(counters)),
            report_progress(counters, watcher),
        ):
            per_block = tracks_per_block(len(refs), layout)
            operators = pipeline.Operators.of(plans.settled(plan, layout), settings, layout, counters)
            yield from pipeline.score_windows(listed, operators, per_block)
