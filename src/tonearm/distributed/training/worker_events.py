"""What training workers tell, kept until the driver asks."""

from __future__ import annotations

from typing import Any

from tonearm.errors import TonearmError


class Journal:
    """An actor that keeps the workers' events until the driver takes them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.error: TonearmError | None = None

    def tell(self, event: dict[str, Any]) -> None:
        """Keep an event."""
        self.events.append(event)

    def take(self) -> list[dict[str, Any]]:
        """Return what was told since the last time."""
        events, self.events = self.events, []
        return events

    def fail(self, error: TonearmError) -> None:
        """Keep why the run cannot go on: of a dead worker Ray tells the driver only text."""
        self.error = self.error or error

    def fatal(self) -> TonearmError | None:
        """Return why the run cannot go on, if it cannot."""
        return self.error


def start_journal() -> Any:
    """Return a handle of the actor.

    One call at a time: with several, two events of one worker may change places, and a tracker whose step goes back
    takes it for another run's.
    """
    import ray

    return ray.remote(Journal).options(num_cpus=0, max_concurrency=1).remote()
