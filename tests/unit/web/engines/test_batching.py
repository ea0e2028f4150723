"""Chunks of several requests are put into batches of bounded size, and no request fails or holds up another."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tonearm.errors import ScoreError
from tonearm.models.window_scores import WindowScores
from tonearm.web.engines.batching import Batcher, Chunk, Outcome


def chunk(count: int) -> Chunk:
    return Chunk(np.zeros((count, 8), np.int16), 1.0)


class Model:
    """Answers when told to, and notes the batches that it was given."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.batches: list[list[int]] = []

    async def score(self, chunks: list[Chunk]) -> list[Outcome]:
        self.batches.append([len(chunk) for chunk in chunks])
        await self.gate.wait()
        return [WindowScores(np.zeros((len(chunk), 2)), np.zeros((len(chunk), 2))) for chunk in chunks]  # type: ignore[arg-type]


def test_what_waits_together_goes_together_and_chunks_are_never_too_large() -> None:
    """A limit that was lowered while it runs, below what a request's chunks have, fails none of them."""

    async def check() -> None:
        model = Model()
        queue = Batcher(model.score, batch_windows=16)
        asked = [asyncio.create_task(queue.submit(chunk(count))) for count in (4, 4, 8, 1)]
        await asyncio.sleep(0.01)
        queue.batch_windows = 2
        model.gate.set()
        asked += [asyncio.create_task(queue.submit(chunk(count))) for count in (4, 1, 1)]
        outcomes = await asyncio.gather(*asked)
        assert [len(scores.logits) for scores in outcomes] == [4, 4, 8, 1, 4, 1, 1]  # type: ignore[union-attr]
        assert model.batches == [[4, 4, 8], [1], [4], [1, 1]]

    asyncio.run(check())


def test_a_chunk_whose_asker_left_is_not_scored() -> None:
    async def check() -> None:
        model = Model()
        queue = Batcher(model.score, batch_windows=4)
        asked = [asyncio.create_task(queue.submit(chunk(4))) for _ in range(4)]
        await asyncio.sleep(0.01)
        asked[0].cancel()  # it is being scored
        asked[2].cancel()
        model.gate.set()
        await asyncio.gather(*asked, return_exceptions=True)
        assert len(model.batches) == 3 and asked[1].done() and not asked[1].cancelled()

    asyncio.run(check())


def test_a_bug_in_the_model_fails_its_batch_and_not_the_queue() -> None:
    async def check() -> None:
        async def score(chunks: list[Chunk]) -> list[Outcome]:
            if len(chunks[0]) == 3:
                raise KeyError("bug")
            return [ScoreError("no", code="score_failed")]

        queue = Batcher(score, batch_windows=4, batch_wait_s=0.01)
        failed, refused = await asyncio.gather(queue.submit(chunk(3)), queue.submit(chunk(4)), return_exceptions=True)
        assert isinstance(failed, KeyError) and isinstance(refused, ScoreError)

    asyncio.run(check())


@pytest.mark.parametrize(("wait_s", "expected"), [(0.0, [[1]]), (5.0, [[1, 1, 2]])])
def test_an_idle_model_waits_for_company_if_told_to(wait_s: float, expected: list[list[int]]) -> None:
    """And no longer than until a batch is full."""

    async def check() -> None:
        model = Model()
        model.gate.set()
        queue = Batcher(model.score, batch_windows=4, batch_wait_s=wait_s)
        asked = [asyncio.create_task(queue.submit(chunk(1)))]
        await asyncio.sleep(0.01)
        asked += [asyncio.create_task(queue.submit(chunk(count))) for count in (1, 2)]
        await asyncio.wait_for(asyncio.gather(*asked), 2)
        assert model.batches[:1] == expected

    asyncio.run(check())
