"""Windows of any requests that wait together go through a model together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from tonearm.audio.streams import Samples
from tonearm.errors import ScoreError
from tonearm.models.window_scores import WindowScores

Outcome = WindowScores | ScoreError


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Some windows of one track as they travel: int16 or float32 [windows, samples], times ``scale``."""

    pcm: Samples
    scale: float

    def __len__(self) -> int:
        return len(self.pcm)


def num_windows(chunks: Sequence[Chunk]) -> int:
    """Return how many windows a batch of chunks has."""
    return sum(map(len, chunks))


class Batcher:
    """A queue before one model. Belongs to one event loop.

    Args:
        score: gives an outcome for each of a batch's chunks; one batch at a time.
        batch_windows: of a batch at most; a chunk that has more goes alone.
        batch_wait_s: how long the first chunk waits for others when the model is idle.
    """

    def __init__(
        self,
        score: Callable[[list[Chunk]], Awaitable[list[Outcome]]],
        *,
        batch_windows: int = 16,
        batch_wait_s: float = 0.0,
    ) -> None:
        self.score = score
        self.batch_windows = batch_windows
        self.batch_wait_s = batch_wait_s
        self._waiting: deque[tuple[Chunk, asyncio.Future[Outcome]]] = deque()
        self._is_fuller = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, chunk: Chunk) -> Outcome:
        """Return the chunk's outcome. Cancelled, a chunk that still waits is never scored."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        entry = (chunk, outcome)
        self._waiting.append(entry)
        self._is_fuller.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await outcome
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # it is being scored
                self._waiting.remove(entry)
            raise

    async def _work(self) -> None:
        try:
            await self._fill()
            while self._waiting:
                batch = self._take()
                (scored,) = await asyncio.gather(self.score([chunk for chunk, _ in batch]), return_exceptions=True)
                # A bug in the model is each asker's to report.
                outcomes = [scored] * len(batch) if isinstance(scored, BaseException) else scored
                for (_, future), outcome in zip(batch, outcomes, strict=True):
                    # Who asked has left while it was scored.
                    if future.done():
                        continue
                    if isinstance(outcome, BaseException) and not isinstance(outcome, ScoreError):
                        future.set_exception(outcome)
                    else:
                        future.set_result(outcome)
        finally:
            self._worker = None

    async def _fill(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.batch_wait_s):
                while sum(len(chunk) for chunk, _ in self._waiting) < self.batch_windows:
                    self._is_fuller.clear()
                    await self._is_fuller.wait()

    def _take(self) -> list[tuple[Chunk, asyncio.Future[Outcome]]]:
        # The first may be larger than a batch: the limit may have been lowered since it was cut.
        batch = [self._waiting.popleft()]
        left = self.batch_windows - len(batch[0][0])
        # In order only: taking smaller ones from further back would let a large one wait without end.
        while self._waiting and len(self._waiting[0][0]) <= left:
            batch.append(self._waiting.popleft())
            left -= len(batch[-1][0])
        return batch
