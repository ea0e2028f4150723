"""The two operators of the pipeline: fetch and decode on CPU tasks, score on actors.

::

    manifest row ─ decode_tracks ─► row of blocks.DECODED ─ ScoreTracks ─► row of schema.TRACKS
                   1 in, 1 out                             1 in, 1 out

A track that fails in either is a row with an error, never an exception.
"""

from __future__ import annotations

import collections
import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import ray
from ray.data._internal.datasource.parquet_datasink import ParquetDatasink

from tonearm.audio.decode import DecodedTrack, DecodeRequest
from tonearm.audio.loader import TrackLoader
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.distributed.tagging import blocks
from tonearm.distributed.tagging.counters import RunCounters
from tonearm.errors import TonearmError, TrackError
from tonearm.models.openvino import cache
from tonearm.own_process import peak_memory_bytes
from tonearm.runs.places import KEY
from tonearm.runs.todo import OLD
from tonearm.settings import DecodeSettings, FetchSettings
from tonearm.sources.listing import TrackRef
from tonearm.sources.reader import ObjectReader
from tonearm.storage.store_errors import STORE_CODES
from tonearm.tagging import RunFacts, Tagger, TagPlan, to_table

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from ray import ObjectRef
    from ray.data._internal.execution.interfaces import TaskContext
    from ray.data.block import Block


# Audio that is made into rows at once: many rows in one piece cost Ray far less than a piece each, and a long track
# does not wait for others.
ROWS_BYTES = 4 * 2**20
REPORT_S = 0.5
# Encoded bytes that one task may hold ahead of its decoder: enough to hide a store's latency, small beside the decoder.
PREFETCH_BYTES = 256 * 2**20

LOGITS = pa.schema(
    [
        pa.field(KEY, pa.int64()),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("start_s", pa.list_(pa.float64())),
        pa.field("logits", pa.list_(pa.float32())),
    ]
)

# A Ray worker serves many tasks of one run, so a decoder's child outlives the task that started it.
_sandboxes: dict[tuple[int, DecodeSettings], DecodeSandbox] = {}


def _sandbox(settings: DecodeSettings) -> DecodeSandbox:
    key = (os.getpid(), settings)
    if key not in _sandboxes:
        _sandboxes[key] = DecodeSandbox(settings)
    return _sandboxes[key]


def decode_tracks(
    block: pa.Table,
    *,
    request: DecodeRequest,
    fetch: FetchSettings,
    decode: DecodeSettings,
    counters: RunCounters,
) -> Iterator[pa.Table]:
    """Fetch and decode the tracks of a block, handing rows on as they come so that long tracks do not pile up.

    Takes rows of ``schema.MANIFEST``, gives as many of ``blocks.DECODED`` in the same order; a column ``old``, the row
    that a track has already, goes along.
    """
    refs = [blocks.decode_ref(block, index) for index in range(block.num_rows)]
    loader = TrackLoader(ObjectReader(fetch), _sandbox(decode), request)
    report = Report(counters, "decoding worker")
    _check(counters)
    ready: list[tuple[TrackRef, DecodedTrack | TrackError]] = []
    ready_bytes, num_given = 0, 0
    with ThreadPoolExecutor(fetch.concurrency, thread_name_prefix="fetch") as pool:
        for ref, data, fetch_s in _fetched(refs, loader, pool, fetch.concurrency):
            started = time.perf_counter()
            is_refused = isinstance(data, TrackError) and data.code in STORE_CODES
            num_bytes = 0 if isinstance(data, TrackError) else len(data)
            outcome = loader.decode(data, ref)
            # The encoded bytes are not held while the rows wait.
            del data
            report.add(
                {"fetched_bytes": num_bytes, "num_refused" if is_refused else "num_read": 1},
                {"fetch": fetch_s, "decode": time.perf_counter() - started},
            )
            if is_refused:
                report.send()
                _check(counters)
            ready.append((ref, outcome))
            ready_bytes += blocks.num_bytes(outcome)
            if ready_bytes >= ROWS_BYTES:
                yield _with_old(blocks.encode_tracks(ready), block, num_given)
                num_given += len(ready)
                ready, ready_bytes = [], 0
    report.send()
    if ready:
        yield _with_old(blocks.encode_tracks(ready), block, num_given)


def _with_old(table: pa.Table, block: pa.Table, first: int) -> pa.Table:
    return table.append_column(OLD, block[OLD].slice(first, len(table))) if OLD in block.column_names else table


def _check(counters: RunCounters) -> None:
    """Raise what the driver has found to be wrong with the whole run."""
    failure = counters.read_failure()
    if failure is not None:
        raise failure


class Report:
    """Adds up what a worker has done and sends it every ``REPORT_S``."""

    # A call per track costs more than decoding a short track.

    def __init__(self, counters: RunCounters, who: str) -> None:
        self.counters = counters
        self.who = who
        self._clear()

    def add(self, totals: Mapping[str, float], busy_s: Mapping[str, float]) -> None:
        """Add a track's or a block's figures; they are sent when the last ones are ``REPORT_S`` old."""
        self.totals.update(totals)
        self.busy_s.update(busy_s)
        if time.monotonic() - self.sent >= REPORT_S:
            self.send()

    def send(self) -> None:
        """Send what has not been sent."""
        peak_bytes, elapsed_s = {self.who: peak_memory_bytes()}, time.monotonic() - self.sent
        self.counters.add(self.totals, self.busy_s, peak_bytes, elapsed_s)
        self._clear()

    def _clear(self) -> None:
        self.totals: collections.Counter[str] = collections.Counter()
        self.busy_s: collections.Counter[str] = collections.Counter()
        self.sent = time.monotonic()


def _fetched(
    refs: list[TrackRef], loader: TrackLoader, pool: ThreadPoolExecutor, concurrency: int
) -> Iterator[tuple[TrackRef, bytes | TrackError, float]]:
    """Yield each track's bytes in order while the next ones are being read."""
    waiting: collections.deque[tuple[TrackRef, Future[tuple[bytes | TrackError, float]]]] = collections.deque()
    todo = collections.deque(refs)
    ahead_bytes = 0
    while todo or waiting:
        while todo and len(waiting) < concurrency and (not waiting or ahead_bytes < PREFETCH_BYTES):
            ref = todo.popleft()
            ahead_bytes += ref.size_bytes or 0
            waiting.append((ref, pool.submit(_timed, loader, ref)))
        ref, future = waiting.popleft()
        ahead_bytes -= ref.size_bytes or 0
        yield ref, *future.result()


def _timed(loader: TrackLoader, ref: TrackRef) -> tuple[bytes | TrackError, float]:
    started = time.perf_counter()
    return loader.fetch(ref), time.perf_counter() - started


class _Stopwatch:
    """Tells what of a block's time went into features, into forward passes and into everything else."""

    def __init__(self, tagger: Tagger) -> None:
        self.tagger = tagger
        self.started = time.perf_counter()
        self.features_before = tagger.features_s
        self.scoring_s = 0.0

    @contextlib.contextmanager
    def scoring(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.scoring_s = time.perf_counter() - started

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started

    def busy_s(self) -> dict[str, float]:
        features_s = self.tagger.features_s - self.features_before
        return {
            "features": features_s,
            "forward": self.scoring_s - features_s,
            "pool": self.elapsed_s - self.scoring_s,
        }


class ScoreTracks:
    """An actor that holds a plan's heads and scores the windows of a block's tracks together.

    Takes rows of ``blocks.DECODED``, gives as many of ``schema.TRACKS`` in the same order.

    Args:
        plan: made by the driver; nothing is planned again here.
        quantized: models that this machine may not have, as ``cache.pack`` gives them, by revision.
    """

    def __init__(
        self,
        plan: TagPlan,
        facts: RunFacts,
        num_threads: int,
        counters: RunCounters,
        quantized: Mapping[str, ObjectRef[dict[str, bytes]]] | None = None,
    ) -> None:
        # Before the model is loaded: an actor that starts after the run has ended must end itself.
        counters.enlist()
        for digest, files in (quantized or {}).items():
            packed: dict[str, bytes] = ray.get(files)
            cache.unpack(digest, packed)
        try:
            self.tagger = Tagger.of(plan, num_threads=num_threads)
        except TonearmError as error:
            counters.fail(error, wait=True)
            raise
        self.facts = facts
        self.counters = counters
        self.told: dict[str, dict[str, str]] = {}
        self._tell()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Score one block."""
        watch = _Stopwatch(self.tagger)
        refs = [blocks.decode_ref(block, index) for index in range(block.num_rows)]
        tracks = [blocks.read_outcome(block, index) for index in range(block.num_rows)]
        with watch.scoring():
            scores = self.tagger.score_windows(tracks)
        outcomes = self.tagger.pooled(tracks, scores)
        old = block[OLD] if OLD in block.column_names else None
        table = to_table(refs, outcomes, self.facts, [head_plan.head for head_plan in self.tagger.plans.values()], old)
        good = [outcome for outcome in outcomes if not isinstance(outcome, TrackError)]
        totals = {
            "num_tracks": len(outcomes),
            "num_failed": len(outcomes) - len(good),
            "num_windows": sum(outcome.num_windows for outcome in good),
            "audio_s": sum(outcome.info.duration_s for outcome in good),
        }
        self._report(totals, watch)
        if routed := self.tagger.routed(scores):
            self.counters.add_routed(routed)
        return table

    def _tell(self) -> None:
        """Tell what the heads run on, if that is new: a graph may be found wrong in the middle of a run."""
        described = self.tagger.describe()
        for head, description in described.items():
            if self.told.get(head) != description:
                self.counters.note(head, description)
        self.told = described

    def _report(self, totals: Mapping[str, float], watch: _Stopwatch) -> None:
        self._tell()
        self.counters.add(totals, watch.busy_s(), {"scoring worker": peak_memory_bytes()}, watch.elapsed_s)


class ScoreWindows(ScoreTracks):
    """As ``ScoreTracks``, but of a plan of one head gives every window's logits: rows of ``LOGITS``."""

    def __call__(self, block: pa.Table) -> pa.Table:
        """Score one block."""
        watch, rows = _Stopwatch(self.tagger), []
        (head,) = self.tagger.plans
        tracks = [blocks.read_outcome(block, index) for index in range(block.num_rows)]
        with watch.scoring():
            scored = self.tagger.score_windows(tracks)
        for index, (track, scores) in enumerate(zip(tracks, scored, strict=True)):
            row: dict[str, object] = {KEY: block[KEY][index].as_py()}
            if isinstance(scores, TrackError) or isinstance(track, TrackError):
                error = scores if isinstance(scores, TrackError) else track
                row |= {"error_code": error.code, "error_message": error.message}  # type: ignore[union-attr]
            else:
                plan = self.tagger.plans[head].windows
                starts = plan.starts(track.stream(plan.sample_rate).num_samples) / plan.sample_rate
                row |= {"start_s": starts, "logits": scores[head].logits.ravel()}
            rows.append(row)
        failed = sum("error_code" in row for row in rows)
        windows = sum(len(scores[head].logits) for scores in scored if not isinstance(scores, TrackError))
        audio_s = sum(track.info.duration_s for track in tracks if not isinstance(track, TrackError))
        totals = {"num_tracks": len(rows), "num_failed": failed, "num_windows": windows, "audio_s": audio_s}
        self._report(totals, watch)
        return pa.Table.from_pylist(rows, LOGITS)


class TracksSink(ParquetDatasink):
    """Writes files of rows as ``write_parquet`` does, and reports the time it takes."""

    def __init__(self, path: str, counters: RunCounters, filesystem: FileSystem) -> None:
        super().__init__(path, filesystem=filesystem, arrow_parquet_args={"compression": "zstd"})
        self.counters = counters

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        """Write one task's blocks."""
        started = time.perf_counter()
        super().write(blocks, ctx)
        elapsed_s = time.perf_counter() - started
        self.counters.add({}, {"write": elapsed_s}, {}, elapsed_s)
