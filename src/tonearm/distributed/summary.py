"""A finished run as the ``RunSummary`` that ``runs/<run>.json`` and the report hold."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path

import psutil

from tonearm import __version__
from tonearm.distributed.batch import Outcome
from tonearm.distributed.cluster import usable_cores
from tonearm.distributed.stages import peak_memory_bytes
from tonearm.library.run_summary import (
    MachineFacts,
    ManifestCounts,
    ModelFacts,
    ResultCounts,
    RunSummary,
    SpeedFacts,
)
from tonearm.settings import TagSettings


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
        genre_model=_model(outcome, "genre"),
        tag_model=_model(outcome, "tags"),
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
    import torch

    gpus = tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return MachineFacts(model, usable_cores(), psutil.virtual_memory().total, gpus)


def _model(outcome: Outcome, head: str) -> ModelFacts | None:
    plan = outcome.plans.get(head)
    if plan is None:
        return None
    info, facts = plan.checkpoint, outcome.counts.facts.get(head, {}) if outcome.counts is not None else {}
    window_s = plan.windows.window_samples / plan.windows.sample_rate
    return ModelFacts(info.name, info.revision, window_s=window_s, num_labels=len(info.labels), **facts)


def _speed(outcome: Outcome) -> SpeedFacts | None:
    counts = outcome.counts
    if counts is None or not counts.num_tracks or not outcome.wall_s:
        return None
    return SpeedFacts(
        num_tracks=counts.num_tracks,
        audio_s=counts.audio_s,
        tracks_per_s=counts.num_tracks / outcome.wall_s,
        audio_hours_per_hour=counts.audio_s / outcome.wall_s,
        span_s=counts.span_s,
        peak_bytes={**counts.peak_bytes, "driver": peak_memory_bytes()},
        busy_s=counts.busy_s,
        spilled_bytes=outcome.spilled_bytes,
    )
