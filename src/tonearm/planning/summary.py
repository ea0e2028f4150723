"""Summarize a finished run as the ``RunSummary`` that ``runs/<run>.json`` and the report are made from."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tonearm import __version__
from tonearm.heads import PUBLISHED
from tonearm.models.runtimes import gpu_names, usable_cores
from tonearm.own_process import peak_memory_bytes
from tonearm.planning.layout import Layout
from tonearm.runs.counts import Counts, WindowCounts
from tonearm.runs.resume import Audit
from tonearm.runs.run_summary import (
    FallbackFacts,
    MachineFacts,
    ManifestCounts,
    ModelFacts,
    ResultCounts,
    RunSummary,
    SpeedFacts,
)
from tonearm.settings import TagSettings
from tonearm.tagging import FallbackPlan, HeadPlan, fallback_name

# The parts of a scoring worker, which run one after the other, and the stages before it.
SCORING, BEFORE = ("features", "forward", "pool"), ("fetch", "decode")
# From this busy share on, a stage is taken for the bottleneck. Not 1.0: even the slowest stage waits at times, such as
# at the start and the end.
SATURATED = 0.75


@dataclasses.dataclass(frozen=True)
class Execution:
    """The layout that a run had, what its workers counted, and how much Ray spilled to disk."""

    layout: Layout
    counts: Counts
    spilled_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended. ``execution`` is None if there was nothing to do."""

    run_id: str
    audit: Audit
    num_done_before: int
    num_skipped: dict[str, int]
    num_bytes: int
    plans: dict[str, HeadPlan]
    started: datetime.datetime
    wall_s: float
    fetch_concurrency: int = 1
    execution: Execution | None = None

    @property
    def counts(self) -> Counts | None:
        """Return what the workers counted, None if there was nothing to do."""
        return self.execution.counts if self.execution is not None else None

    @property
    def spilled_bytes(self) -> int:
        """Return how many bytes Ray wrote to disk because its object store was full."""
        return self.execution.spilled_bytes if self.execution is not None else 0


def summarize(outcome: Outcome, settings: TagSettings, *, command: Sequence[str], notice: str | None) -> RunSummary:
    """Return the summary that ``runs/<run>.json`` and the report show."""
    audit = outcome.audit
    return RunSummary(
        run_id=outcome.run_id,
        started=outcome.started,
        finished=outcome.started + datetime.timedelta(seconds=outcome.wall_s),
        wall_s=outcome.wall_s,
        command=shlex.join(["tonearm", *command[1:]]),
        version=__version__,
        **_published_models(outcome),
        head_models={name: _model_facts(outcome, name) for name in outcome.plans if name not in PUBLISHED},
        settings=dataclasses.asdict(settings),
        machine=machine_facts(),
        manifest=ManifestCounts(audit.num_listed, outcome.num_bytes, outcome.num_skipped),
        results=ResultCounts(
            num_ok=audit.num_ok,
            num_error=audit.num_error,
            errors_by_code=audit.errors_by_code,
            audio_s=audit.audio_s,
            scored_share=audit.scored_s / audit.audio_s if audit.audio_s else 1.0,
        ),
        speed=_speed_facts(outcome),
        notice=notice,
    )


def machine_facts() -> MachineFacts:
    """Return this machine's processor, cores, memory and GPUs."""
    # ``platform.processor()`` is empty or only the architecture on Linux; /proc/cpuinfo has the model's name.
    model, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        names = (
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        )
        model = next(names, model)
    return MachineFacts(model, usable_cores(), psutil.virtual_memory().total, tuple(gpu_names()))


def _published_models(outcome: Outcome) -> dict[str, Any]:
    # The heads of version 0.1.0 have fields of their own in the file, which its readers know; see ``head_models``.
    return {head.model: _model_facts(outcome, name) for name, head in PUBLISHED.items() if name in outcome.plans}


def _model_facts(outcome: Outcome, head: str) -> ModelFacts:
    plan, counts = outcome.plans[head], outcome.counts or Counts()
    checkpoint, facts = plan.checkpoint, counts.facts.get(head, {})
    return ModelFacts(
        checkpoint.name,
        checkpoint.revision,
        window_s=plan.window_s,
        num_labels=len(checkpoint.labels),
        fallback=None if plan.fallback is None else _fallback_facts(plan.fallback, head, counts),
        **facts,
    )


def _fallback_facts(plan: FallbackPlan, head: str, counts: Counts) -> FallbackFacts:
    checkpoint, routed = plan.model.checkpoint, counts.routed.get(head, WindowCounts())
    return FallbackFacts(
        checkpoint.name,
        checkpoint.revision,
        plan.threshold,
        routed.num_windows,
        routed.num_sent,
        **counts.facts.get(fallback_name(head), {}),
    )


def _speed_facts(outcome: Outcome) -> SpeedFacts | None:
    execution, counts = outcome.execution, outcome.counts
    if execution is None or counts is None or not counts.num_tracks or not outcome.wall_s:
        return None
    shares = _busy_shares(execution, outcome.fetch_concurrency)
    return SpeedFacts(
        num_tracks=counts.num_tracks,
        audio_s=counts.audio_s,
        tracks_per_s=counts.num_tracks / outcome.wall_s,
        audio_hours_per_hour=counts.audio_s / outcome.wall_s,
        span_s=counts.span_s,
        peak_bytes={**counts.peak_bytes, "driver": peak_memory_bytes()},
        busy_s=counts.busy_s,
        busy_share=shares,
        bottleneck=bottleneck(shares),
        spilled_bytes=execution.spilled_bytes,
    )


def _busy_shares(execution: Execution, fetch_concurrency: int) -> dict[str, float]:
    """Return each stage's busy time as a share of the time that its workers had; ``score`` sums the scoring parts."""
    layout, counts = execution.layout, execution.counts
    if not counts.span_s:
        return {}
    free_cpus = layout.num_cpus - layout.num_scorers * layout.scorer_cpus
    # A local Ray has more logical CPUs than cores (see ``local_cpus``), so the cores are the limit there.
    decoders = max(1, min(int(free_cpus), usable_cores()) if layout.is_local else int(free_cpus))
    num_places = {"fetch": decoders * fetch_concurrency, "decode": decoders, "write": decoders}
    busy_s = dict(counts.busy_s)
    busy_s["score"] = sum(busy_s.get(stage, 0.0) for stage in SCORING)
    return {
        stage: value / (counts.span_s * num_places.get(stage, layout.num_scorers)) for stage, value in busy_s.items()
    }


def bottleneck(shares: dict[str, float]) -> str:
    """Return which stage the others waited for, as a sentence for the report; empty without shares."""
    if not shares:
        return ""
    scoring = shares.get("score", 0.0)
    if scoring >= SATURATED:
        busiest_part = max(SCORING, key=lambda stage: shares.get(stage, 0.0))
        return f"{busiest_part}: scoring was busy {scoring:.0%} of the time"
    name, share = max(((stage, shares.get(stage, 0.0)) for stage in BEFORE), key=lambda pair: pair[1])
    if share >= SATURATED:
        return f"{name}: busy {share:.0%} of the time, while scoring waited {1 - scoring:.0%} of it"
    return (
        f"none: scoring waited {1 - scoring:.0%} of the time, {name} was busy {share:.0%} of it; the run was too short"
    )
