"""Counters that every stage reports to and the progress line reads: one small Ray actor per run."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tonearm.errors import TonearmError
from tonearm.runs.counts import Counts


class _Totals:
    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.busy_s: Counter[str] = Counter()
        self.peak_bytes: dict[str, int] = {}
        self.facts: dict[str, dict[str, str]] = {}
        self.failure: TonearmError | None = None
        self.refused_in_a_row = 0
        self.first_s = math.inf
        self.last_s = -math.inf

    def add(
        self, totals: dict[str, float], busy_s: dict[str, float], peak_bytes: dict[str, int], elapsed_s: float
    ) -> None:
        """Add what a worker has done in the ``elapsed_s`` up to now; reads overlap, so ``busy_s`` may be more."""
        self.last_s = time.monotonic()
        self.first_s = min(self.first_s, self.last_s - elapsed_s)
        self.totals.update(totals)
        refused = int(totals.get("num_refused", 0))
        self.refused_in_a_row = 0 if totals.get("num_read") else self.refused_in_a_row + refused
        self.busy_s.update(busy_s)
        for name, value in peak_bytes.items():
            self.peak_bytes[name] = max(value, self.peak_bytes.get(name, 0))

    def note(self, name: str, value: dict[str, str]) -> None:
        self.facts[name] = value

    def fail(self, error: TonearmError) -> None:
        """Keep why the run must end: of a dead actor Ray tells the driver only text."""
        self.failure = error

    def read_failure(self) -> TonearmError | None:
        return self.failure

    def read(self) -> Counts:
        totals: dict[str, Any] = dict(self.totals)
        span_s = max(0.0, self.last_s - self.first_s)
        return Counts(
            **totals,
            refused_in_a_row=self.refused_in_a_row,
            span_s=span_s,
            busy_s=dict(self.busy_s),
            peak_bytes=self.peak_bytes,
            facts=self.facts,
            failure=self.failure,
        )


@dataclasses.dataclass(frozen=True)
class RunCounters:
    """What a run's stages and driver hold of the actor; travels to workers.

    What is told is sent and not waited for; what is asked waits for the answer.
    """

    actor: Any  # Ray's handle, whose stubs type no method

    def add(
        self, totals: Mapping[str, float], busy_s: Mapping[str, float], peak_bytes: Mapping[str, int], elapsed_s: float
    ) -> None:
        """Tell what a worker has done in the ``elapsed_s`` up to now."""
        self.actor.add.remote(dict(totals), dict(busy_s), dict(peak_bytes), elapsed_s)

    def note(self, name: str, value: dict[str, str]) -> None:
        """Tell what a head runs with."""
        self.actor.note.remote(name, value)

    def fail(self, error: TonearmError, *, wait: bool = False) -> None:
        """Tell why the run must end.

        Args:
            wait: until it is known, as a worker must that dies by it.
        """
        told = self.actor.fail.remote(error)
        if wait:
            ray.get(told)

    def read_failure(self) -> TonearmError | None:
        """Return why the run must end, if it must."""
        failure: TonearmError | None = ray.get(self.actor.read_failure.remote())
        return failure

    def read(self, timeout_s: float | None = None) -> Counts:
        """Return what was told so far.

        Raises:
            ray.exceptions.RayError: the actor does not answer (in time).
        """
        counts: Counts = ray.get(self.actor.read.remote(), timeout=timeout_s)
        return counts


def start_counters() -> RunCounters:
    """Return new counters that take no logical CPU, beside the driver: a worker's node may go."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(_Totals).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    return RunCounters(actor.remote())
