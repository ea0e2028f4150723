"""Labelled clips decoded and scored on Ray Data, as tagging does it: what ``evaluate`` judges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    listed = manifest.to_table(list(refs))
    plan = plans.prepared(plan, settings, refs, watcher)
    watcher.starting(len(refs), 0)
    with session.session(settings.workers, verbose=settings.verbose) as layout, counting() as counters:
        # Not at the top: Ray Data takes a second to import, and ``session`` imports it while Ray's processes start.
        from tonearm.distributed.tagging import pipeline

        rows: dict[int, Any] = {}
        with (
            pipeline.context(settings),
            explain_failures("the evaluation", RunFailure(counters)),
            report_progress(counters, watcher),
        ):
            per_block = tracks_per_block(len(refs), layout)
            operators = pipeline.Operators.of(plans.settled(plan, layout), settings, layout, counters)
            for block in pipeline.score_windows(listed, operators, per_block):
                rows |= {row[KEY]: row for row in block.to_pylist()}
        return rows
