"""Counters that every stage reports to and the progress line reads: one small Ray actor per run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tonearm.distributed.run_failures import KeptFailure, RunActor
from tonearm.runs.counts import Counts, WindowCounts, of_workers

# The counters are beside the driver: they answer at once, or their node has no time for anything.
ANSWERS_IN_S = 5.0


class _Totals(KeptFailure):
    def __init__(self) -> None:
        super().__init__()
        self.totals: Counter[str] = Counter()
        self.busy_s: Counter[str] = Counter()
        self.peak_bytes: dict[str, int] = {}
        self.described: dict[str, dict[str, dict[str, str]]] = {}
        self.routed: dict[str, WindowCounts] = {}
        self.scorers: list[bytes] = []
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

    def add_routed(self, routed: dict[str, WindowCounts]) -> None:
        """Add the windows that heads with a fallback have scored and sent on."""
        for head, counts in routed.items():
            self.routed[head] = self.routed.get(head, WindowCounts()).plus(counts)

    def note(self, head: str, worker: str, described: dict[str, str]) -> None:
        self.described.setdefault(head, {})[worker] = described

    def enlist(self, scorer: bytes) -> None:
        self.scorers.append(scorer)

    def take_scorers(self) -> list[bytes]:
        scorers, self.scorers = self.scorers, []
        return scorers

    def read(self) -> Counts:
        totals: dict[str, Any] = dict(self.totals)
        span_s = max(0.0, self.last_s - self.first_s)
        return Counts(
            **totals,
            refused_in_a_row=self.refused_in_a_row,
            span_s=span_s,
            busy_s=dict(self.busy_s),
            peak_bytes=self.peak_bytes,
            facts={head: of_workers([*workers.values()]) for head, workers in self.described.items()},
            routed=self.routed,
            failure=self.failure,
        )


@dataclasses.dataclass(frozen=True)
class RunCounters(RunActor):
    """What a run's stages and driver hold of the actor; travels to workers.

    What is told is sent and not waited for; what is asked waits for the answer.
    """

    def add(
        self, totals: Mapping[str, float], busy_s: Mapping[str, float], peak_bytes: Mapping[str, int], elapsed_s: float
    ) -> None:
        """Tell what a worker has done in the ``elapsed_s`` up to now."""
        self.actor.add.remote(dict(totals), dict(busy_s), dict(peak_bytes), elapsed_s)

    def add_routed(self, routed: Mapping[str, WindowCounts]) -> None:
        """Tell how many windows heads with a fallback have scored and sent on."""
        self.actor.add_routed.remote(dict(routed))

    def note(self, head: str, described: Mapping[str, str]) -> None:
        """Tell what a head runs on in the worker that calls this; what it has told before counts no more."""
        worker = ray.get_runtime_context().get_actor_id() or ""
        self.actor.note.remote(head, worker, dict(described))

    def enlist(self) -> None:
        """Have the actor that calls this ended by ``end_scorers``.

        Raises:
            ray.exceptions.RayActorError: the run is over, and so the actor that has only just started must be.
        """
        # As bytes, which only the driver reads: a process that reads a handle of such an actor imports all of Ray Data.
        ray.get(self.actor.enlist.remote(ray.cloudpickle.dumps(ray.get_runtime_context().current_actor)))

    def end_scorers(self) -> None:
        """End the actors that have enlisted, with their models and their CPUs."""
        # Ray Data only drops its references to them. After a run that broke off other references stay, in the traceback
        # that a notebook keeps and in cycles, and the next run on the same Ray would wait for those CPUs.
        with contextlib.suppress(ray.exceptions.RayError):
            for scorer in ray.get(self.actor.take_scorers.remote(), timeout=ANSWERS_IN_S):
                ray.kill(ray.cloudpickle.loads(scorer))

    def read(self, timeout_s: float | None = None) -> Counts:
        """Return what was told so far.

        Raises:
            ray.exceptions.RayError: the actor does not answer (in time).
        """
        counts: Counts = ray.get(self.actor.read.remote(), timeout=timeout_s)
        return counts


@contextlib.contextmanager
def counting() -> Iterator[RunCounters]:
    """Start a run's counters; at the end of the block end them and the actors that enlisted with them."""
    counters = start_counters()
    try:
        yield counters
    finally:
        counters.end_scorers()
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(counters.actor)


def start_counters() -> RunCounters:
    """Return new counters, which take no logical CPU."""
    # On the driver's node: a worker's node may go during the run.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(_Totals).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    return RunCounters(actor.remote())
