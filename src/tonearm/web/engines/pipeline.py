"""From bytes to a result: decodes in sandboxed children, has the models score the windows, pools what they say."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from tonearm.audio.decode import DecodedTrack, DecodeRequest
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.errors import RequestError, ScoreError
from tonearm.models.pooling import Scored, rank
from tonearm.models.window_scores import WindowScores, checked
from tonearm.settings import ServeSettings
from tonearm.sources.reader import ObjectReader
from tonearm.sources.track_ref import make_ref
from tonearm.storage.allowed_uris import AllowedUris
from tonearm.tagging import HeadPlan, Heads, TrackResult, decode_request
from tonearm.web.daemon_threads import in_daemon_thread
from tonearm.web.engines.batching import Chunk
from tonearm.web.messages import View
from tonearm.web.telemetry import metrics
from tonearm.wording import counted

T = TypeVar("T")
Score = Callable[[Chunk], Awaitable[WindowScores]]
# A long track's chunks wait in a head's queue two at a time, so that it shares the model with everybody else.
CHUNKS_AHEAD = 2
# What the page shows is what the models hear.
VIEW_HZ = 16000
# A child that is nearly done is worth more than a new one, which takes a moment to start.
GIVE_UP_S = 0.5
# Reads whose asker has gone and which no store has ended yet, for each that may be under way.
MOST_LEFT = 8


class Pipeline:
    """What becomes of an upload. Belongs to one event loop.

    Args:
        scores: gives the scores of some windows, for each head.
    """

    def __init__(
        self, settings: ServeSettings, plans: Mapping[str, HeadPlan], scores: Mapping[str, Score], num_decoders: int
    ) -> None:
        self.settings = settings
        self.heads = Heads(dict(plans), settings.models)
        self.scores = scores
        # Small chunks: those that find no room in a batch go to the end of the queue, and large ones would starve.
        self.chunk_windows = max(1, settings.batch_windows // 4)
        # An object that a bulk request names may be as large as an upload, and no larger.
        fetch = dataclasses.replace(settings.fetch, max_bytes=min(settings.fetch.max_bytes, settings.max_body_bytes))
        self.allowed = AllowedUris(settings.allow_uris)
        self.reader = ObjectReader(fetch, self.allowed)
        self.reads = Reads(settings.bulk_concurrency)
        self.sandboxes = [DecodeSandbox(settings.decode) for _ in range(num_decoders)]
        self.free: asyncio.Queue[DecodeSandbox] = asyncio.Queue()
        for sandbox in self.sandboxes:
            self.free.put_nowait(sandbox)
        self.ending: set[asyncio.Task[None]] = set()
        self.decoding = ThreadPoolExecutor(num_decoders, thread_name_prefix="decode")

    async def tag(self, data: bytes, max_windows: int | None) -> TrackResult:
        """Return what all heads say of a track."""
        heads = self.heads.limited(max_windows)
        track = await self._decode(data, self._request(heads))
        return heads.pool(track, await self.score(heads, track))

    async def tag_uri(self, uri: str, max_windows: int | None) -> TrackResult:
        """Return what all heads say of the object at ``uri``, which the caller has found allowed."""
        async with self.reads.places:  # until it is scored: what is read and waits is held as well
            return await self.tag(await self.reads.run(self.reader.read, make_ref(uri)), max_windows)

    async def classify(self, head: str, data: bytes, function: str, max_windows: int | None) -> tuple[Scored, ...]:
        """Return every label of one head with the mean over windows of its score, descending."""
        heads = self.heads.limited(max_windows, [head])
        scores = await self.score(heads, await self._decode(data, self._request(heads)))
        return rank(scores[head].logits, heads.plans[head].checkpoint.labels, function)

    async def view(self, data: bytes) -> View:
        """Return what the page draws of a track."""
        # librosa and matplotlib take seconds to import, and most decoders draw nothing.
        from tonearm.audio.overview import peaks, spectrograms

        samples = int(self.settings.max_duration_s * VIEW_HZ)
        plan = WindowPlan(VIEW_HZ, samples, samples, 1, 1)
        track = await self._decode(data, DecodeRequest((plan,), self.settings.max_duration_s))
        stream, info = track.streams[0], track.info
        envelope, pictures = await asyncio.to_thread(lambda: (peaks(stream), spectrograms(stream)))
        return View(
            duration_s=info.duration_s,
            codec=info.codec,
            sample_rate=info.sample_rate,
            channels=info.channels,
            title=info.title,
            artist=info.artist,
            peaks=envelope,
            spectrogram=pictures.linear,
            mel=pictures.mel,
            max_hz=VIEW_HZ / 2,
        )

    async def score(self, heads: Heads, track: DecodedTrack) -> dict[str, WindowScores]:
        """Return what each head says of each of its windows; where one fails, the others stop."""
        scores = await together([self._score_head(head, heads, track) for head in heads.plans])
        return dict(zip(heads.plans, scores, strict=True))

    def close(self) -> None:
        """End the children, those that are at work too."""
        for sandbox in self.sandboxes:
            sandbox.close()
        # Their children are ended, so the threads end by themselves.
        self.decoding.shutdown(wait=False)

    def _request(self, heads: Heads) -> DecodeRequest:
        return decode_request(heads.plans, self.settings.decode.max_scored_s)

    async def _decode(self, data: bytes, request: DecodeRequest) -> DecodedTrack:
        request = dataclasses.replace(request, max_duration_s=self.settings.max_duration_s)
        sandbox = await self.free.get()
        work = asyncio.get_running_loop().run_in_executor(self.decoding, sandbox.decode, data, request)
        try:
            # A thread cannot be cancelled: the sandbox is free only when the work in it has ended.
            track = await asyncio.shield(work)
        finally:
            if work.done():
                self.free.put_nowait(sandbox)
            else:
                # Whoever asked has gone. A task of its own sees to the child: that one may be cancelled again.
                task = asyncio.create_task(self._give_up(sandbox, work))
                self.ending.add(task)
                task.add_done_callback(self.ending.discard)
        metrics().audio_seconds.inc(track.info.duration_s)
        return track

    async def _give_up(self, sandbox: DecodeSandbox, work: asyncio.Future[DecodedTrack]) -> None:
        await ended(work, sandbox.give_up)
        self.free.put_nowait(sandbox)

    async def _score_head(self, head: str, heads: Heads, track: DecodedTrack) -> WindowScores:
        score = self.scores[head]
        chunks = _chunks(heads.plans[head].windows, track, self.chunk_windows)
        parts = [part async for part in ahead((score(chunk) for chunk in chunks), CHUNKS_AHEAD)]
        logits, embedding = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("logits", "embedding")
        )
        scores = checked(head, WindowScores(logits, embedding))
        if isinstance(scores, ScoreError):
            raise scores
        return scores


class Reads:
    """Reads of all bulk requests, each in a thread; ``places`` has one for each that may be under way.

    A store that is silent keeps its thread until it is given up; the places are the askers', not the threads'.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.places = asyncio.Semaphore(count)
        self.num_left = 0

    async def run(self, read: Callable[..., T], *arguments: Any) -> T:
        """Return ``read(*arguments)``, for who has a place.

        Raises:
            RequestError: busy, with many reads left behind.
        """
        if self.num_left >= MOST_LEFT * self.count:
            left = counted(self.num_left, "read")
            raise RequestError(f"{left} of clients that left wait for their stores", code="busy", retry_after_s=30.0)
        # Not in a pool: Python waits for its threads when it ends, and a store may be silent for minutes.
        reading = in_daemon_thread("fetch", functools.partial(read, *arguments))
        try:
            return await asyncio.wrap_future(reading)
        except asyncio.CancelledError:
            if not reading.done():
                self.num_left += 1
                reading.add_done_callback(functools.partial(self._note_end, asyncio.get_running_loop()))
            raise

    def _note_end(self, loop: asyncio.AbstractEventLoop, _: object) -> None:
        def count() -> None:
            self.num_left -= 1

        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(count)


def _chunks(plan: WindowPlan, track: DecodedTrack, size: int) -> Iterator[Chunk]:
    stream = track.stream(plan.sample_rate)
    starts = iter(plan.starts(stream.num_samples).tolist())
    while part := list(itertools.islice(starts, size)):
        yield Chunk(np.stack([stream.levels(start, plan.window_samples) for start in part]), stream.scale)


async def ahead(works: Iterable[Any], count: int) -> AsyncIterator[Any]:
    """Yield the results of coroutines in order, ``count`` of them under way at a time; none is left when it ends."""
    todo, tasks = iter(works), []
    try:
        for work in itertools.islice(todo, count):
            tasks.append(asyncio.ensure_future(work))
        while tasks:
            result = await tasks[0]
            tasks.pop(0)
            tasks += [asyncio.ensure_future(work) for work in itertools.islice(todo, 1)]
            yield result
    finally:
        await _end(tasks)


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of coroutines that run together; none is left under way when one fails."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _end(tasks)


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def ended(work: asyncio.Future[Any], give_up: Callable[[], None]) -> None:
    """Return once ``work``, for which nobody waits any more, has ended: by itself in a moment, or given up."""
    done, _ = await asyncio.wait([work], timeout=GIVE_UP_S)
    while not done:
        give_up()
        done, _ = await asyncio.wait([work], timeout=GIVE_UP_S)
    if not work.cancelled():
        work.exception()  # which nobody waits for
