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
from tonearm.distributed.tagging.driver import Outcome
from tonearm.distributed.tagging.stages import peak_memory_bytes
from tonearm.heads import PUBLISHED
from tonearm.models.runtimes import count_gpus, usable_cores
from tonearm.runs.run_summary import MachineFacts, ManifestCounts, ModelFacts, ResultCounts, RunSummary, SpeedFacts
from tonearm.settings import TagSettings

# What a scoring worker does one after the other, and what comes before it.
SCORING, BEFORE = ("features", "forward", "pool"), ("fetch", "decode")
# Above this a stage is what the others wait for: no pipeline keeps its slowest part busy all the time.
SATURATED = 0.75


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
    gpus: tuple[str, ...] = ()
    if count := count_gpus():
        import torch

        gpus = tuple(torch.cuda.get_device_name(index) for index in range(count))
    return MachineFacts(model, usable_cores(), psutil.virtual_memory().total, gpus)


def _published_models(outcome: Outcome) -> dict[str, Any]:
    return {head.model: _model(outcome, name) for name, head in PUBLISHED.items() if name in outcome.plans}


def _model(outcome: Outcome, head: str) -> ModelFacts:
    plan = outcome.plans[head]
    info, facts = plan.checkpoint, outcome.counts.facts.get(head, {}) if outcome.counts is not None else {}
    return ModelFacts(info.name, info.revision, window_s=plan.window_s, num_labels=len(info.labels), **facts)


def _speed(outcome: Outcome) -> SpeedFacts | None:
    counts = outcome.counts
    if counts is None or not counts.num_tracks or not outcome.wall_s:
        return None
    shares = _busy_shares(outcome)
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
        spilled_bytes=outcome.spilled_bytes,
    )


def _busy_shares(outcome: Outcome) -> dict[str, float]:
    """Return each stage's busy time as a share of what its places had; ``score`` is all that a scoring worker does."""
    layout, counts = outcome.layout, outcome.counts
    if layout is None or not counts.span_s:
        return {}
    free = layout.num_cpus - layout.num_scorers * layout.scorer_cpus
    # A local Ray has more logical CPUs than cores, so that tasks wait for cores and not for each other.
    decoders = max(1, min(int(free), usable_cores()) if layout.is_local else int(free))
    places = {"fetch": decoders * outcome.fetch_concurrency, "decode": decoders, "write": decoders}
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
