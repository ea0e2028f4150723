"""One loaded model behind a queue, wherever it runs: in the server's process or in a replica of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tonearm.audio.windows import dequantize
from tonearm.errors import ScoreError
from tonearm.models.window_scores import WindowScores, score_apart
from tonearm.settings import ServeSettings
from tonearm.tagging import HeadPlan, load_head
from tonearm.web.engines.batching import Batcher, Chunk, Outcome, num_windows
from tonearm.web.telemetry import metrics

# On a card a pass over many windows costs hardly more than one over a few; on processors each costs its own time.
CARD_WAIT_S = 0.005


class Scorer:
    """One head's model. Its coroutines belong to one event loop.

    Args:
        num_threads: of a forward pass on a processor.

    Raises:
        CheckpointError, SettingsError: as ``load_head`` does.
    """

    def __init__(self, head: str, plan: HeadPlan, settings: ServeSettings, num_threads: int) -> None:
        self.head = head
        self.classifier = load_head(head, plan, settings.models, num_threads=num_threads, is_server=True)
        self.is_on_card = self.classifier.describe()["device"] != "cpu"
        self.num_waiting = 0
        # One thread: two forward passes at a time would only take each other's cores.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self.last_answer = float("-inf")
        self.batcher = Batcher(self._score_batch)
        self.configure(settings.batch_windows, settings.batch_wait_s)
        self._silence()  # the first forward pass is slow; no client shall wait for it
        self._meter(0)

    def configure(self, batch_windows: int, batch_wait_s: float | None) -> None:
        """Set how many windows a pass has and how long it waits for them; by default none on processors."""
        # Elsewhere more than the model takes at a time would only be waited for longer.
        self.batcher.batch_windows = (
            batch_windows if self.is_on_card else min(batch_windows, self.classifier.batch_size)
        )
        default_s = CARD_WAIT_S if self.is_on_card else 0.0
        self.batcher.batch_wait_s = default_s if batch_wait_s is None else batch_wait_s

    async def windows(self, chunk: Chunk) -> WindowScores:
        """Return the scores of a chunk's windows.

        Raises:
            ScoreError: score_failed.
        """
        self._meter(len(chunk))
        try:
            outcome = await self.batcher.submit(chunk)
        finally:
            self._meter(-len(chunk))
        if isinstance(outcome, ScoreError):
            raise outcome
        return outcome

    async def check(self, fresh_s: float) -> bool:
        """Answer once the model has scored a window, now or within the last ``fresh_s`` seconds."""
        if time.monotonic() - self.last_answer > fresh_s:
            # In the thread of the forward passes: a model that hangs must not pass for well because the loop answers.
            await asyncio.get_running_loop().run_in_executor(self.thread, self._silence)
            self.last_answer = time.monotonic()
        return True

    def close(self) -> None:
        """Take no more work."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    def _silence(self) -> None:
        self.classifier.score([np.zeros(self.classifier.info.sample_rate, np.float32)])

    async def _score_batch(self, chunks: list[Chunk]) -> list[Outcome]:
        outcomes = await asyncio.get_running_loop().run_in_executor(self.thread, self.score, chunks)
        self.last_answer = time.monotonic()
        return outcomes

    def score(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        """Score many requests' chunks together; one that breaks the pass fails alone."""
        return score_apart(self.head, chunks, self._score_together)

    def _score_together(self, chunks: Sequence[Chunk]) -> list[WindowScores]:
        started = time.perf_counter()
        scores = self.classifier.score([dequantize(pcm, chunk.scale) for chunk in chunks for pcm in chunk.pcm])
        count = num_windows(chunks)
        metrics().windows.labels(self.head).inc(count)
        metrics().batch_windows.labels(self.head).observe(count)
        metrics().forward_seconds.labels(self.head).inc(time.perf_counter() - started)
        edges = np.cumsum([len(chunk) for chunk in chunks])[:-1]
        return [
            WindowScores(logits, embedding)
            for logits, embedding in zip(np.split(scores.logits, edges), np.split(scores.embedding, edges), strict=True)
        ]

    def _meter(self, change: int) -> None:
        self.num_waiting += change
        metrics().waiting_windows.labels(self.head).set(self.num_waiting)
