"""Why a run must end, kept by its actor: of a worker that dies Ray tells the driver only text."""

from __future__ import annotations

import dataclasses
from typing import Any

import ray

from tonearm.errors import TonearmError


class KeptFailure:
    """The actor's side: keeps what was told first, which is the cause of what is told after it."""

    def __init__(self) -> None:
        self.failure: TonearmError | None = None

    def fail(self, error: TonearmError) -> None:
        self.failure = self.failure or error

    def read_failure(self) -> TonearmError | None:
        return self.failure


@dataclasses.dataclass(frozen=True)
class RunActor:
    """What a run's driver and workers hold of an actor that is a ``KeptFailure``; travels to workers."""

    actor: Any  # Ray's handle, whose stubs type no method

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
