"""One model behind a queue: windows of any requests that wait together share a forward pass."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve

from tonearm.audio.streams import Samples
from tonearm.audio.windows import dequantize
from tonearm.distributed.replicas import gives_errors
from tonearm.errors import ScoreError
from tonearm.models.classifier import WindowScores
from tonearm.settings import ServeSettings
from tonearm.tagging import HeadPlan, first_line, load_head
from tonearm.web.telemetry import metrics, share


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some windows of one track as they travel: int16 or float32 [windows, samples], times ``scale``."""

    pcm: Samples
    scale: float

    def __len__(self) -> int:
        return len(self.pcm)


@dataclasses.dataclass(frozen=True)
class Batching:
    """What ``user_config`` sets while a head runs."""

    batch_windows: int
    batch_wait_s: float


def num_windows(chunks: Sequence[Chunk]) -> int:
    """Return how many windows a batch of chunks has."""
    return sum(map(len, chunks))


class Head:
    """One loaded checkpoint. A deployment, one a head; see ``serve.build``."""

    def __init__(
        self, head: str, plan: HeadPlan, settings: ServeSettings, num_threads: int, metrics_folder: Path
    ) -> None:
        share(metrics_folder)
        self.head = head
        self.classifier = load_head(head, plan, settings.models, num_threads=num_threads)
        self.num_waiting = 0
        # One thread: two forward passes at a time would only take each other's cores.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self.last_answer = float("-inf")
        self._silence()  # the first forward pass is slow; no client shall wait for it
        self._meter(0)

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Take ``user_config``: batch size and wait, without loading the model anew."""
        batching = Batching(**config)
        self.score.set_max_batch_size(batching.batch_windows)  # type: ignore[attr-defined]
        self.score.set_batch_wait_timeout_s(batching.batch_wait_s)  # type: ignore[attr-defined]

    async def windows(self, chunk: Chunk) -> WindowScores | ScoreError:
        """Return the scores of a chunk's windows, or why there are none."""
        self._meter(len(chunk))
        try:
            outcome: WindowScores | ScoreError = await self.score(chunk)
            return outcome
        finally:
            self._meter(-len(chunk))

    @serve.batch(
        max_batch_size=16,
        batch_wait_timeout_s=0.005,
        max_concurrent_batches=1,
        batch_size_fn=num_windows,
    )
    async def score(self, chunks: list[Chunk]) -> list[WindowScores | ScoreError]:
        """Score many requests' chunks together."""
        outcomes = await asyncio.get_running_loop().run_in_executor(self.thread, self._score, chunks)
        self.last_answer = time.monotonic()
        return outcomes

    @gives_errors
    async def check(self, fresh_s: float) -> bool:
        """Answer once the model has scored a window, now or within the last ``fresh_s`` seconds."""
        if time.monotonic() - self.last_answer > fresh_s:
            await asyncio.get_running_loop().run_in_executor(self.thread, self._silence)
            self.last_answer = time.monotonic()
        return True

    def _silence(self) -> None:
        self.classifier.score([np.zeros(self.classifier.info.sample_rate, np.float32)])

    def _score(self, chunks: list[Chunk]) -> list[WindowScores | ScoreError]:
        started = time.perf_counter()
        try:
            scores = self.classifier.score([dequantize(pcm, chunk.scale) for chunk in chunks for pcm in chunk.pcm])
        except (RuntimeError, ValueError, MemoryError) as error:
            # One request's windows may be what broke the batch: alone, only that request fails.
            if len(chunks) > 1:
                return [outcome for chunk in chunks for outcome in self._score([chunk])]
            return [ScoreError(f"{self.head}: {first_line(error)}", code="score_failed")]
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
