"""Events of training workers, kept by an actor until the driver takes them."""

from __future__ import annotations

import dataclasses
from typing import Any

import ray

from tonearm.distributed.run_failures import KeptFailure, RunActor


class _Events(KeptFailure):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def tell(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def take(self) -> list[dict[str, Any]]:
        events, self.events = self.events, []
        return events


@dataclasses.dataclass(frozen=True)
class WorkerEvents(RunActor):
    """What workers and driver hold of the actor; travels to workers."""

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event."""
        self.actor.tell.remote(event)

    def take(self) -> list[dict[str, Any]]:
        """Return what was told since the last time."""
        events: list[dict[str, Any]] = ray.get(self.actor.take.remote())
        return events


def start_worker_events() -> WorkerEvents:
    """Start the actor of one training."""
    # One call at a time: with several, two events of one worker may change places, and a tracker that sees a step go
    # back takes the event for another run's.
    return WorkerEvents(ray.remote(_Events).options(num_cpus=0, max_concurrency=1).remote())
