"""Why a run must end, kept by the run's actor."""

from __future__ import annotations

import dataclasses
from typing import Any

import ray

from tonearm.errors import TonearmError


# An actor keeps the error, since Ray tells the driver no more than a text about a worker that died.
class KeptFailure:
    """The actor's side: keeps the first failure that is reported."""

    def __init__(self) -> None:
        self.failure: TonearmError | None = None

    def fail(self, error: TonearmError) -> None:
        # Later failures are mostly consequences of the first: a guard stops a run, and then its workers die.
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
        recorded = self.actor.fail.remote(error)
        if wait:
            ray.get(recorded)

    def read_failure(self) -> TonearmError | None:
        """Return why the run must end, if it must."""
        failure: TonearmError | None = ray.get(self.actor.read_failure.remote())
        return failure
