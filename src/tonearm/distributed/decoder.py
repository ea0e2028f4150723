"""From bytes to a result: decodes in sandboxed children, has the heads score the windows, pools what they say."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tonearm.audio.decode import DecodedTrack, DecodeRequest
from tonearm.audio.overview import peaks, spectrograms
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.distributed.head import Chunk
from tonearm.distributed.replicas import ask, gives_errors
from tonearm.errors import ScoreError
from tonearm.library.allowed_uris import AllowedUris
from tonearm.library.objects import ObjectReader
from tonearm.library.track_ref import make_ref
from tonearm.models.classifier import WindowScores
from tonearm.models.pooling import Scored, rank
from tonearm.settings import ServeSettings
from tonearm.tagging import HeadPlan, Heads, TrackResult, decode_request
from tonearm.web.messages import View
from tonearm.web.telemetry import metrics, share

T = TypeVar("T")
# A long track's chunks wait in a head's queue two at a time, so that it shares the model with everybody else.
CHUNKS_AHEAD = 2
# What the page shows is what the models hear.
VIEW_HZ = 16000


class Decoder:
    """A replica with some sandboxed children. A deployment; see ``serve.build``."""

    def __init__(
        self, settings: ServeSettings, plans: dict[str, HeadPlan], heads: Mapping[str, Any], metrics_folder: Path
    ) -> None:
        share(metrics_folder)
        self.settings = settings
        self.heads = Heads(plans, settings.models)
        self.handles = dict(heads)
        # Small chunks: those that find no room in a batch go to the end of the queue, and large ones would starve.
        self.chunk_windows = max(1, settings.batch_windows // 4)
        fetch = dataclasses.replace(settings.fetch, max_bytes=min(settings.fetch.max_bytes, settings.max_body_bytes))
        self.reader = ObjectReader(fetch, AllowedUris(settings.allow_uris))
        self.sandboxes: asyncio.Queue[DecodeSandbox] = asyncio.Queue()
        for _ in range(settings.decoders):
            self.sandboxes.put_nowait(DecodeSandbox(settings.decode))
        # Fetching waits for the network and decoding for a child: neither may keep the other from a thread.
        self.fetching = ThreadPoolExecutor(settings.bulk_concurrency, thread_name_prefix="fetch")
        self.decoding = ThreadPoolExecutor(settings.decoders, thread_name_prefix="decode")

    @gives_errors
    async def tag(self, data: bytes, max_windows: int | None) -> TrackResult:
        """Return what both heads say of a track."""
        return await self._tag(data, max_windows)

    @gives_errors
    async def tag_uri(self, uri: str, max_windows: int | None) -> TrackResult:
        """Return what both heads say of the object at ``uri``, which the caller has found allowed."""
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self.fetching, self.reader.read, make_ref(uri))
        return await self._tag(data, max_windows)

    @gives_errors
    async def classify(self, head: str, data: bytes, function: str, max_windows: int | None) -> tuple[Scored, ...]:
        """Return every label of one head with the mean over windows of its score, descending."""
        heads = self.heads.limited(max_windows, [head])
        scores = await self._score(heads, await self._decode(data, self._request(heads)))
        return rank(scores[head].logits, heads.plans[head].checkpoint.labels, function)

    @gives_errors
    async def view(self, data: bytes) -> View:
        """Return what the page draws of a track."""
        samples = int(self.settings.max_duration_s * VIEW_HZ)
        plan = WindowPlan(VIEW_HZ, samples, samples, 1, 1)
        track = await self._decode(data, DecodeRequest((plan,), self.settings.max_duration_s))
        stream, info = track.streams[0], track.info
        spectrogram, mel = await asyncio.to_thread(spectrograms, stream)
        return View(
            duration_s=info.duration_s,
            codec=info.codec,
            sample_rate=info.sample_rate,
            channels=info.channels,
            title=info.title,
            artist=info.artist,
            peaks=peaks(stream),
            spectrogram=spectrogram,
            mel=mel,
            max_hz=VIEW_HZ / 2,
        )

    async def _tag(self, data: bytes, max_windows: int | None) -> TrackResult:
        heads = self.heads.limited(max_windows)
        track = await self._decode(data, self._request(heads))
        return heads.pool(track, await self._score(heads, track))

    def _request(self, heads: Heads) -> DecodeRequest:
        return decode_request(heads.plans, self.settings.decode.max_scored_s)

    async def _decode(self, data: bytes, request: DecodeRequest) -> DecodedTrack:
        request = dataclasses.replace(request, max_duration_s=self.settings.max_duration_s)
        async with self._sandbox() as sandbox:
            work = asyncio.get_running_loop().run_in_executor(self.decoding, sandbox.decode, data, request)
            # A client that goes away leaves the child at work: its sandbox is free again only when that has ended.
            track = await uninterrupted(work)
        metrics().audio_seconds.inc(track.info.duration_s)
        return track

    @asynccontextmanager
    async def _sandbox(self) -> AsyncIterator[DecodeSandbox]:
        sandbox = await self.sandboxes.get()
        try:
            yield sandbox
        finally:
            self.sandboxes.put_nowait(sandbox)

    async def _score(self, heads: Heads, track: DecodedTrack) -> dict[str, WindowScores]:
        found = await asyncio.gather(*(self._score_head(head, heads, track) for head in heads.plans))
        return dict(zip(heads.plans, found, strict=True))

    async def _score_head(self, head: str, heads: Heads, track: DecodedTrack) -> WindowScores:
        method = self.handles[head].windows
        chunks = _chunks(heads.plans[head].windows, track, self.chunk_windows)
        parts = [part async for part in ahead((ask(method, chunk) for chunk in chunks), CHUNKS_AHEAD)]
        logits = np.concatenate([part.logits for part in parts])
        if not np.isfinite(logits).all():
            raise ScoreError(f"{head}: the model gave a score that is not a number", code="score_failed")
        return WindowScores(logits, np.concatenate([part.embedding for part in parts]))


def _chunks(plan: WindowPlan, track: DecodedTrack, size: int) -> Iterator[Chunk]:
    stream = track.stream(plan.sample_rate)
    starts = iter(plan.starts(stream.num_samples).tolist())
    while part := list(itertools.islice(starts, size)):
        yield Chunk(np.stack([stream.levels(start, plan.window_samples) for start in part]), stream.scale)


async def ahead(works: Iterable[Any], count: int) -> AsyncIterator[Any]:
    """Yield the results of coroutines in order, so many of them under way at a time; none is left when it ends."""
    todo, tasks = iter(works), []
    try:
        for work in itertools.islice(todo, count):
            tasks.append(asyncio.create_task(work))
        while tasks:
            result = await tasks[0]
            tasks.pop(0)
            tasks += [asyncio.create_task(work) for work in itertools.islice(todo, 1)]
            yield result
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def uninterrupted(work: asyncio.Future[T]) -> T:
    """Return what ``work`` gives; a cancellation takes effect once it has ended."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
