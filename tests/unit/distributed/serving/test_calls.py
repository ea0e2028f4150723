"""A call between deployments gives a value or the error of the other side, and outlives a replica that dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import ray

from tonearm.distributed.serving.calls import ATTEMPTS, ask, gives_errors
from tonearm.errors import RequestError


class Method:
    """Stands for the method of a deployment's handle: one outcome after the other, the last one again and again."""

    def __init__(self, *outcomes: Callable[[], object]) -> None:
        self.outcomes, self.num_calls = outcomes, 0

    async def remote(self, *_: object) -> object:
        self.num_calls += 1
        return self.outcomes[min(self.num_calls, len(self.outcomes)) - 1]()


def dies() -> object:
    raise ray.exceptions.RayActorError


def test_a_tonearm_error_is_returned_by_the_method_and_raised_by_the_caller() -> None:
    @gives_errors
    async def refuse() -> int:
        raise RequestError("too long", code="too_large")

    returned = asyncio.run(refuse())
    assert isinstance(returned, RequestError)
    with pytest.raises(RequestError, match="too long"):
        asyncio.run(ask(Method(lambda: returned)))


def test_an_error_that_is_a_bug_is_not_returned_as_a_value() -> None:
    @gives_errors
    async def divide() -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        asyncio.run(divide())


def test_what_a_dead_replica_was_doing_is_asked_of_another() -> None:
    method = Method(dies, lambda: 7)
    assert asyncio.run(ask(method, "data")) == 7
    assert method.num_calls == 2


def test_after_three_dead_replicas_the_client_is_told_to_come_back() -> None:
    method = Method(dies)
    with pytest.raises(RequestError, match="do not answer") as caught:
        asyncio.run(ask(method))
    assert method.num_calls == ATTEMPTS == 3
    assert (caught.value.code, caught.value.retry_after_s) == ("unavailable", 10.0)
