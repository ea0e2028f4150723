"""A counter that every stage reports to and the progress line reads: one small Ray actor a run."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tonearm.errors import TonearmError


@dataclasses.dataclass
class Counts:
    """What the stages have reported so far; for people, not for the audit.

    ``span_s`` is the time from the first track's bytes to the last track's row; ``refused_in_a_row`` counts the reads
    that a store has failed since the last one that it did not.
    """

    num_tracks: int = 0
    num_failed: int = 0
    num_windows: int = 0
    audio_s: float = 0.0
    fetched_bytes: int = 0
    num_read: int = 0
    num_refused: int = 0
    refused_in_a_row: int = 0
    span_s: float = 0.0
    busy_s: dict[str, float] = dataclasses.field(default_factory=dict)
    peak_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    facts: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    failure: TonearmError | None = None


class _Tally:
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


def start_tally() -> Any:
    """Return the handle of a new tally that takes no logical CPU, beside the driver: a worker's node may go."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(_Tally).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    return actor.remote()
