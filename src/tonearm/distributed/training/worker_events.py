"""What training workers tell, kept by an actor until the driver asks."""

from __future__ import annotations

import dataclasses
from typing import Any

import ray

from tonearm.errors import TonearmError


class _Events:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.error: TonearmError | None = None

    def tell(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def take(self) -> list[dict[str, Any]]:
        events, self.events = self.events, []
        return events

    def fail(self, error: TonearmError) -> None:
        """Keep why the run cannot go on: of a dead worker Ray tells the driver only text."""
        self.error = self.error or error

    def fatal(self) -> TonearmError | None:
        return self.error


@dataclasses.dataclass(frozen=True)
class WorkerEvents:
    """What workers and driver hold of the actor; travels to workers."""

    actor: Any  # Ray's handle, whose stubs type no method

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event."""
        self.actor.tell.remote(event)

    def take(self) -> list[dict[str, Any]]:
        """Return what was told since the last time."""
        events: list[dict[str, Any]] = ray.get(self.actor.take.remote())
        return events

    def fail(self, error: TonearmError, *, wait: bool = False) -> None:
        """Tell why the run cannot go on.

        Args:
            wait: until it is known, as a worker must that dies by it.
        """
        told = self.actor.fail.remote(error)
        if wait:
            ray.get(told)

    def fatal(self) -> TonearmError | None:
        """Return why the run cannot go on, if it cannot."""
        error: TonearmError | None = ray.get(self.actor.fatal.remote())
        return error


def start_worker_events() -> WorkerEvents:
    """Return new events, with an actor of their own.

    One call at a time: with several, two events of one worker may change places, and a tracker whose step goes back
    takes it for another run's.
    """
    return WorkerEvents(ray.remote(_Events).options(num_cpus=0, max_concurrency=1).remote())
