"""A finished run as the ``RunSummary`` that ``runs/<run>.json`` and the report hold."""

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
from tonearm.runs.counts import Counts
from tonearm.runs.resume import Audit
from tonearm.runs.run_summary import MachineFacts, ManifestCounts, ModelFacts, ResultCounts, RunSummary, SpeedFacts
from tonearm.settings import TagSettings
from tonearm.tagging import HeadPlan

# What a scoring worker does one after the other, and what comes before it.
SCORING, BEFORE = ("features", "forward", "pool"), ("fetch", "decode")
# Above this a stage is what the others wait for: no pipeline keeps its slowest part busy all the time.
SATURATED = 0.75


@dataclasses.dataclass(frozen=True)
class Execution:
    """What a run had to work with, what its workers counted, and how much Ray wrote to disk for want of memory."""

    layout: Layout
    counts: Counts
    spilled_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended. ``execution`` is None when there was nothing to do."""

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
        """What the workers counted."""
        return self.execution.counts if self.execution is not None else None

    @property
    def spilled_bytes(self) -> int:
        """What Ray wrote to disk for want of memory."""
        return self.execution.spilled_bytes if self.execution is not None else 0


def summarize(outcome: Outcome, settings: TagSettings, *, command: Sequence[str], notice: str | None) -> RunSummary:
    """Return what ``runs/<run>.json`` and the report say of a run."""
    audit = outcome.audit
    return RunSummary(
        run_id=outcome.run_id,
        started=outcome.started,
        finished=outcome.started + datetime.timedelta(seconds=outcome.wall_s),
        wall_s=outcome.wall_s,
        command=shlex.join(["tonearm", *command[1:]]),
        version=__version__,
        **_published_models(outcome),
        head_models={name: _model(outcome, name) for name in outcome.plans if name not in PUBLISHED},
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
        speed=_speed(outcome),
        notice=notice,
    )


def machine_facts() -> MachineFacts:
    """Return this machine's processor, cores, memory and GPUs."""
    model, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        names = (
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        )
        model = next(names, model)
    return MachineFacts(model, usable_cores(), psutil.virtual_memory().total, tuple(gpu_names()))


def _published_models(outcome: Outcome) -> dict[str, Any]:
    return {head.model: _model(outcome, name) for name, head in PUBLISHED.items() if name in outcome.plans}


def _model(outcome: Outcome, head: str) -> ModelFacts:
    plan = outcome.plans[head]
    info, facts = plan.checkpoint, outcome.counts.facts.get(head, {}) if outcome.counts is not None else {}
    return ModelFacts(info.name, info.revision, window_s=plan.window_s, num_labels=len(info.labels), **facts)


def _speed(outcome: Outcome) -> SpeedFacts | None:
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
    """Return each stage's busy time as a share of what its places had; ``score`` is all that a scoring worker does."""
    layout, counts = execution.layout, execution.counts
    if not counts.span_s:
        return {}
    free = layout.num_cpus - layout.num_scorers * layout.scorer_cpus
    # A local Ray has more logical CPUs than cores, so that tasks wait for cores and not for each other.
    decoders = max(1, min(int(free), usable_cores()) if layout.is_local else int(free))
    places = {"fetch": decoders * fetch_concurrency, "decode": decoders, "write": decoders}
    busy_s = dict(counts.busy_s)
    busy_s["score"] = sum(busy_s.get(stage, 0.0) for stage in SCORING)
    return {stage: value / (counts.span_s * places.get(stage, layout.num_scorers)) for stage, value in busy_s.items()}


def bottleneck(shares: dict[str, float]) -> str:
    """Return what the other stages waited for, from each stage's busy share."""
    if not shares:
        return ""
    score = shares.get("score", 0.0)
    if score >= SATURATED:
        part = max(SCORING, key=lambda stage: shares.get(stage, 0.0))
        return f"{part}: scoring was busy {score:.0%} of the time"
    name, share = max(((stage, shares.get(stage, 0.0)) for stage in BEFORE), key=lambda pair: pair[1])
    if share >= SATURATED:
        return f"{name}: busy {share:.0%} of the time, while scoring waited {1 - score:.0%} of it"
    return f"none: scoring waited {1 - score:.0%} of the time, {name} was busy {share:.0%} of it; the run was too short"
