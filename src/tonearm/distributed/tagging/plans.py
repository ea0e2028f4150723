"""A run's plan made ready for the machines that score: what is settled, converted and shipped before they start."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

from tonearm.models.families import FAMILIES
from tonearm.models.runtimes import choose
from tonearm.planning.layout import Layout
from tonearm.planning.preparation import prepare, settle
from tonearm.settings import ModelSettings, TagSettings
from tonearm.sources.registry import SOURCES
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.uris import scheme
from tonearm.tagging import TagPlan
from tonearm.watchers import Say, Watcher


def refused_claims(plan: TagPlan, sources: Sequence[str]) -> list[str]:
    """Return a line for each of tonearm's own names that the run uses and that an installed package claims too."""
    lines = [FAMILIES.refused_claim(head.checkpoint.family) for head in plan.unfolded().heads.values()]
    lines += [SOURCES.refused_claim(scheme(source)) for source in sources]
    return list(dict.fromkeys(line for line in lines if line is not None))


def prepared(plan: TagPlan, settings: TagSettings, tracks: Iterable[TrackRef], watcher: Watcher) -> TagPlan:
    """Return the plan with what is made on this machine before a run: converted models, int8."""
    # The workers of a cluster convert for themselves. Whether int8 is used must be decided once for all of them: here.
    is_int8 = any(head.precision == "int8" for head in plan.unfolded().heads.values())
    if os.environ.get("RAY_ADDRESS") and not is_int8:
        return plan
    return prepare(plan, settings, tracks, watcher.waiting)


def settled(plan: TagPlan, layout: Layout) -> TagPlan:
    """Return the plan with every precision settled for the workers of ``layout``."""
    if all(head.is_settled for head in plan.unfolded().heads.values()):
        return plan
    return settle(plan, "cuda" if layout.scorer_gpus else "cpu")


def as_described(plan: TagPlan, described: Mapping[str, Mapping[str, str]], say: Say) -> TagPlan:
    """Return a settled plan with the precisions that heads were found to run in, and why.

    Args:
        described: by head, as ``Tagger.describe`` gives it.
        say: told of each that differs.
    """
    heads = dict(plan.heads)
    for name, how in described.items():
        if how["precision"] != heads[name].precision:
            heads[name] = dataclasses.replace(heads[name], precision=how["precision"], note=how["note"])
            say(f"{name} runs in {how['precision']} on this GPU ({how['note']})")
    return dataclasses.replace(plan, heads=heads)


def check_runtime(models: ModelSettings) -> None:
    """Refuse what this machine cannot run before anything is listed; a cluster's workers check for themselves."""
    if os.environ.get("RAY_ADDRESS"):
        return
    choose(models.runtime, models.precision, None)
