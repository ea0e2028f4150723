"""How the server's deployments ask each other: a value or an error comes back, and a replica that dies is replaced."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

import ray
from ray.serve.exceptions import BackPressureError, RayServeException

from tonearm.errors import RequestError, TonearmError

P = ParamSpec("P")
T = TypeVar("T")
ATTEMPTS = 3
REPLICA_ERRORS = (ray.exceptions.RayError, RayServeException)


def gives_errors(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T | TonearmError]]:
    """Have ``method`` return the ``TonearmError`` that it would raise."""

    # An exception that crosses Ray loses its type, and its message grows by the remote traceback.
    @functools.wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T | TonearmError:
        try:
            return await method(*args, **kwargs)
        except TonearmError as error:
            return error

    return guarded


async def ask(method: Any, *arguments: Any) -> Any:
    """Return the answer of a deployment's method, which must be one that ``gives_errors``.

    Raises:
        TonearmError: what the method gave, or busy, or unavailable after three replicas have died.
    """
    reason = ""
    for _ in range(ATTEMPTS):
        response = method.remote(*arguments)
        try:
            outcome = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except BackPressureError:
            raise RequestError("the models' queue is full", code="busy", retry_after_s=5.0) from None
        except ray.exceptions.RayTaskError:
            # A bug in the method: the replica lives, and would raise the same again.
            raise
        except REPLICA_ERRORS as error:
            # The replica died. Scoring has no side effects, so another replica may do the same again.
            reason = type(error).__name__
            continue
        if isinstance(outcome, TonearmError):
            raise outcome
        return outcome
    raise RequestError(f"the models do not answer ({reason})", code="unavailable", retry_after_s=10.0)
