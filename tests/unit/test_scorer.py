from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tonearm import demo
from tonearm.errors import ScoreError
from tonearm.models.classifier import Classifier
from tonearm.models.window_scores import WindowScores
from tonearm.web.engines.batching import Batcher, Chunk, Outcome
from tonearm.web.engines.scorer import Scorer


def test_one_request_that_breaks_a_batch_fails_alone() -> None:
    head = Scorer.__new__(Scorer)  # without what it loads
    head.head, head.classifier = "genre", Classifier.load(demo.genre_model_path())
    score = head.classifier.score

    def fragile(windows: list[np.ndarray]) -> WindowScores:
        if any(np.abs(window).max() > 0.9 for window in windows):
            raise MemoryError  # which has no message
        return score(windows)

    head.classifier.score = fragile  # type: ignore[method-assign]
    good = Chunk(np.full((2, 16000), 1000, np.int16), 1 / 32768)
    bad = Chunk(np.full((1, 16000), 32000, np.int16), 1 / 32768)
    first, failed, last = head.score([good, bad, good])
    assert isinstance(first, WindowScores) and isinstance(last, WindowScores)
    assert len(first.logits) == len(last.logits) == 2
    assert isinstance(failed, ScoreError)
    assert failed.message == "genre: MemoryError"


def chunk(count: int) -> Chunk:
    return Chunk(np.zeros((count, 8), np.int16), 1.0)


class Model:
    """Answers when told to, and notes the batches that it was given."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.batches: list[list[int]] = []

    async def score(self, chunks: list[Chunk]) -> list[Outcome]:
        self.batches.append([len(each) for each in chunks])
        await self.gate.wait()
        return [WindowScores(np.zeros((len(each), 2)), np.zeros((len(each), 2))) for each in chunks]  # type: ignore[arg-type]


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
        assert [len(each.logits) for each in outcomes] == [4, 4, 8, 1, 4, 1, 1]  # type: ignore[union-attr]
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
