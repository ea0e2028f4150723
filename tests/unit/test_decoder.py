"""What a decoder replica asks of the heads: a few chunks ahead, and nothing for a request that has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tonearm.distributed.decoder import ahead, uninterrupted


class Works:
    """Coroutines that end when told to, and what has become of each."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.gates = [asyncio.Event() for _ in range(count)]
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.failing: set[int] = set()

    def __iter__(self) -> Iterator[object]:
        return (self.work(number) for number in range(self.count))

    async def work(self, number: int) -> int:
        self.begun.append(number)
        try:
            await self.gates[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if number in self.failing:
            raise ValueError(f"work {number}")
        return number


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_results_come_in_order_and_so_many_are_under_way() -> None:
    async def check() -> None:
        works, results = Works(5), []

        async def consume() -> None:
            async for result in ahead(works, 2):
                results.append(result)

        task = asyncio.create_task(consume())
        await settle()
        assert works.begun == [0, 1]
        works.gates[1].set()
        await settle()
        assert (results, works.begun) == ([], [0, 1]), "the second waits for the first"
        works.gates[0].set()
        await settle()
        assert (results, works.begun) == ([0, 1], [0, 1, 2, 3])
        for gate in works.gates:
            gate.set()
        await task
        assert results == [0, 1, 2, 3, 4]
        assert works.cancelled == []

    asyncio.run(check())


@pytest.mark.parametrize("ending", ["a failure", "the reader left", "cancelled"])
def test_nothing_is_left_under_way_when_it_ends(ending: str) -> None:
    """Whatever ends it: what has begun is cancelled and has ended before it returns, and nothing else begins."""

    async def check() -> None:
        works = Works(6)
        works.failing = {1} if ending == "a failure" else set()
        for number in (0, 1):
            works.gates[number].set()

        async def consume() -> None:
            results = ahead(works, 3)
            try:
                async for result in results:
                    if ending == "the reader left" and result == 1:
                        return
            finally:
                await results.aclose()

        task = asyncio.create_task(consume())
        await settle()
        if ending == "cancelled":
            task.cancel()
        (failure,) = await asyncio.gather(task, return_exceptions=True)
        begun = list(works.begun)
        assert works.cancelled == begun[2:], "what was under way when it ended"
        assert works.cancelled
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await settle()
        assert works.begun == begun
        expected = {"a failure": ValueError, "the reader left": type(None), "cancelled": asyncio.CancelledError}[ending]
        assert isinstance(failure, expected)

    asyncio.run(check())


def test_work_that_cannot_be_interrupted_is_waited_for() -> None:
    """A decoding child goes on when its client has left: its sandbox is free only when that has ended."""

    async def check() -> None:
        work: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(uninterrupted(work))
        await settle()
        task.cancel()
        await settle()
        assert not task.done()
        work.set_result(1)
        await settle()
        assert task.cancelled()

    asyncio.run(check())
