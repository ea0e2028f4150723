"""What simulated processes do: ``batch.tag_library`` itself with scoring made up, compactions, prunes and readers.

What a head says of a track is made up of the track's key and of all that decides it: the model, its windows and the
precision that the run really scored with. So columns that are mixed up, or a hash that names other settings, can be
seen in any row.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tests.simulation.store import SimulatedFileSystem, Store
from tests.simulation.world import World
from tonearm import demo
from tonearm.audio.decode import AudioInfo
from tonearm.distributed.tagging import driver, plans
from tonearm.distributed.tagging.run import Run, execute_in_turn, note_runtimes, run_facts
from tonearm.errors import Stopped, TrackError
from tonearm.heads import Activation, HeadSettings
from tonearm.models import pooling
from tonearm.planning import adoption
from tonearm.runs import compaction
from tonearm.runs.destination import Destination
from tonearm.runs.lock import run_lock
from tonearm.runs.manifest import manifest
from tonearm.runs.places import KEY
from tonearm.runs.rows import schema
from tonearm.runs.todo import OLD, TodoPart
from tonearm.settings import DecodeSettings, ModelSettings, TagSettings
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems
from tonearm.tagging import HeadPlan, TagPlan, to_table
from tonearm.tagging.tagger import TrackResult
from tonearm.watchers import Watcher

MAX_SCORED_S = DecodeSettings().max_scored_s
NOTHING = np.empty(0, np.float32)
OTHERS: dict[str, Activation] = {"mood": "single", "instruments": "multi", "vectors": "embedding"}

# Of the library's own, which the schedules patch.
_planned_once = functools.cache(adoption.planned)


def planned(*settings: Any, fallback: Mapping[str, Any] | None = None, **further: Any) -> TagPlan:
    """Return ``adoption.planned`` of a run without fallbacks; the same plan for the same settings."""
    assert not fallback, "schedules draw no fallbacks, whose settings have no hash"
    return _planned_once(*settings, **further)


def settings(
    heads: Sequence[str], *, max_windows: int | None = None, limit: int | None = None, **models: Any
) -> TagSettings:
    """Return what a run is asked for: the demo's models for ``heads``."""
    both = demo.models()
    named = {"genre_model": both["genre_model"], "tag_model": both["tag_model"]}
    if "genre" not in heads:
        named["genre_model"] = None
    if "tags" not in heads:
        named["tag_model"] = None
    # Further heads have the genres' model: what they say is made up all the same.
    others = {name: HeadSettings(both["genre_model"], kind) for name, kind in OTHERS.items() if name in heads}
    return TagSettings(
        ModelSettings(**named, heads=others, **models), max_windows=max_windows, limit=limit, tracks_per_block=2
    )


def content(head: str, plan: HeadPlan) -> str:
    """Return all that decides what a head says of a track."""
    return f"{head}|{plan.checkpoint.revision[-6:]}|{plan.windows.max_windows}|{plan.precision}"


def outcome(ref: TrackRef, plan: TagPlan, failures: dict[int, TrackError]) -> TrackResult | TrackError:
    """Return what the heads of ``plan`` say of a track."""
    if ref.track_key in failures:
        return failures[ref.track_key]
    said: dict[str, pooling.EmbeddingResult] = {}
    for name, each in plan.heads.items():
        label = f"{content(name, each)}|{ref.track_key}"
        shape: Any = ((label,), np.zeros(1), np.zeros((1, 1)))
        if each.head.activation == "single":
            said[name] = pooling.SingleResult(NOTHING, label, 1.0, ((label, 1.0),), *shape)
        elif each.head.activation == "multi":
            said[name] = pooling.MultiResult(NOTHING, (pooling.Tag(label, 1.0, 1.0, 0.0),), *shape)
        else:
            said[name] = pooling.EmbeddingResult(np.full(1, ref.track_key % 97, np.float32))
    windows = {
        name: (pooling.HeadWindow(0.0, 3.0, ((f"{content(name, each)}", 1.0),)),)
        for name, each in plan.heads.items()
        if each.head.windows is not None
    }
    info = AudioInfo(3.0, 16000, 1, "mp3", f"{ref.uri} {ref.etag}", None, None)
    return TrackResult(info, 1.0, said, (), 1, windows=windows)


class Workers:
    """What executes a run in place of Ray: files of a few rows, each between its two marks.

    Attributes:
        execution_cleans: whether each first removes what has a pending mark, as Ray does unless it is kept from it.
    """

    execution_cleans = False

    def __init__(self, world: World, store: Store, spec: Any) -> None:
        self.world, self.store, self.spec = world, store, spec
        self.filesystem = SimulatedFileSystem(store)

    def execute(self, run: Run, todo: Sequence[TodoPart], watcher: Any) -> tuple[Run, None]:
        """Do what ``batch._execute`` does."""
        process = self.world.process
        lost: list[Stopped] = []
        plan = plans.settled(run.plan, _Layout(1.0 if process.host.has_gpu else 0.0))
        with run.hold.on_lost(lost.append):
            run = execute_in_turn(run, plan, todo, 4, functools.partial(self._try_execution, lost))
            if lost:
                raise lost[0]
        runtime = "torch" if process.host.has_gpu else "openvino"
        described = {head: {"runtime": runtime} for head in plan.heads}
        return note_runtimes(run, described), None

    def _try_execution(self, *args: Any) -> None:
        try:
            self._execution(*args)
        except OSError as error:  # see ``watch.failing``
            raise Stopped(f"the run broke off: {error}") from None

    def _execution(self, lost: list[Stopped], run: Run, parts: Sequence[TodoPart], marks: str) -> None:
        folder = run.destination.checkpoint(marks)
        if self.execution_cleans:
            self._clean(run.destination, folder)
        plan = run.plan.only(parts[0].heads) if parts[0].heads else run.plan
        facts = run_facts(run)
        failures = self.spec.failures(run.run_id)
        write = f"{self.world.random.randrange(16**8):08x}"
        number = 0
        for part in parts:
            rows = filesystems.read_table(part.url)
            for first in range(0, rows.num_rows, 2):
                if lost:
                    raise lost[0]
                block = rows.slice(first, 2)
                refs = [TrackRef(**row) for row in block.select(schema.MANIFEST.names).to_pylist()]
                outcomes = [outcome(ref, plan, failures) for ref in refs]
                old = block[OLD] if OLD in block.column_names else None
                table = to_table(refs, outcomes, facts, [each.head for each in plan.heads.values()], old)
                self._write(run, folder, f"{write}_{number:06d}", table)
                number += 1

    def _write(self, run: Run, folder: str, name: str, table: pa.Table) -> None:
        pending, mark = f"{folder}/{name}.pending.parquet", f"{folder}/{name}.parquet"
        self._do(lambda: filesystems.write_table(pending, table.select([KEY])))
        self.spec.writes(table, f"{name}-0.parquet")
        self._do(lambda: filesystems.write_table(run.destination.join("tracks", f"{name}-0.parquet"), table))
        self._do(lambda: self._commit(run, pending, mark, table))

    def _commit(self, run: Run, pending: str, mark: str, table: pa.Table) -> None:
        has_mark, has_pending = self.filesystem.exists(mark), self.filesystem.exists(pending)
        path = self.filesystem._strip_protocol(mark)
        if has_mark:
            if has_pending:
                self.filesystem.rm_file(pending)
            return
        if not has_pending:
            raise OSError(f"neither {pending} nor {mark} exists")
        self.spec.commits(path, run, table)
        self.filesystem.copy(self.filesystem._strip_protocol(pending), path)
        self.filesystem.rm_file(pending)

    def _do(self, step: Any) -> None:
        """Try a step as often as Ray does."""
        from tonearm.errors import DestinationError

        for attempt in range(3):
            try:
                step()
                return
            except (OSError, DestinationError):
                if attempt == 2:
                    raise
                run_lock.CLOCK.sleep(1.0)

    def _clean(self, destination: Destination, folder: str) -> None:
        """Do what Ray Data does before each execution where it is left to: undo what has a pending mark."""
        names = [name for name in filesystems.list_files(folder) if name.endswith(".pending.parquet")]
        if not names:
            return
        begun = tuple(name.removesuffix(".pending.parquet") for name in names)
        for name in filesystems.list_files(destination.tracks):
            if name.startswith(begun):
                filesystems.delete(destination.join("tracks", name))
        for name in names:
            filesystems.delete(f"{folder}/{name}")


@dataclasses.dataclass(frozen=True)
class _Layout:
    scorer_gpus: float
    is_local: bool = True


@dataclasses.dataclass(frozen=True)
class Tag:
    """A run of ``tonearm tag``."""

    sources: tuple[str, ...]
    heads: tuple[str, ...] = ("genre", "tags")
    limit: int | None = None
    max_windows: int | None = None
    precision: str = "auto"
    rescore: tuple[str, ...] = ()
    retry_errors: bool = False

    def run(self, out: str) -> Any:
        """Do it."""
        wanted = settings(self.heads, limit=self.limit, max_windows=self.max_windows, precision=self.precision)
        rescore = [head for head in self.rescore if head in self.heads]
        return driver.tag_library(self.sources, out, wanted, Watcher(), retry_errors=self.retry_errors, rescore=rescore)


@dataclasses.dataclass(frozen=True)
class Compact:
    """A run of ``tonearm compact``."""

    target_bytes: int = 60_000

    def run(self, out: str) -> Any:
        """Do it."""
        destination = Destination.of(out)
        with run_lock.held(destination) as hold:
            compaction.compact(destination, target_bytes=self.target_bytes, check=hold.check)


@dataclasses.dataclass(frozen=True)
class Prune:
    """A prune of a source."""

    source: str

    def run(self, out: str) -> Any:
        """Do it."""
        destination = Destination.of(out)
        with run_lock.held(destination) as hold:
            manifest.prune(destination.manifest, [self.source], term=hold.term, check=hold.check)
