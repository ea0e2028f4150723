"""One schedule: a library that changes, and the processes that read and write its destination, all by one seed."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

from tests.simulation import runs
from tests.simulation.runs import Compact, Prune, Tag, Workers
from tests.simulation.spec import COLUMNS, Spec
from tests.simulation.store import Creates, Object, SimulatedFileSystem, Store
from tests.simulation.world import (
    Fate,
    Host,
    InlinePool,
    Psutil,
    SimulatedClock,
    Threading,
    Violation,
    World,
)
from tonearm.distributed.tagging import driver, plans
from tonearm.distributed.tagging.run import Run
from tonearm.errors import DestinationError, Incomplete, SourceError, Stopped, TonearmError
from tonearm.planning import adoption
from tonearm.runs import compaction, status
from tonearm.runs.lock import hold, lock_file, run_lock
from tonearm.runs.lock.lock_file import Machine
from tonearm.runs.manifest import manifest
from tonearm.runs.rows import finished_rows, merged_schemas, track_rows
from tonearm.storage import filesystems
from tonearm.storage.uris import Address

OUT = "memory://labels/out"
MUSIC = "memory://music"
FOLDERS = ("a", "b")
SOURCES = (MUSIC, f"{MUSIC}/a", f"{MUSIC}/b", "memory://lists/favourites.csv")
NUM_FILES = 7
# What the first of two has changed a moment ago when it is suspended, and what the second when the first wakes.
DUELS = (
    ("lock.json", "pending.parquet"),
    ("lock.json", "compaction/"),
    ("manifest/part", "manifest/part"),
    ("_manifest", "manifest/part"),
    ("groups", "pending.parquet"),
    ("compacted-", "compaction/"),
    ("compacted-", "compacted-"),
)
EPOCH = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


@dataclasses.dataclass
class Outcome:
    """How a schedule went."""

    told: list[str]
    num_steps: int
    num_reads: int
    num_complete: int
    ended: dict[str, int]


class Failed(AssertionError):
    """A schedule in which something is wrong, with its seed and its steps in words."""

    def __init__(self, seed: int, why: BaseException, told: list[str], num_lines: int = 400) -> None:
        left_out = max(0, len(told) - num_lines)
        steps = "\n".join([f"... {left_out} steps before"] * bool(left_out) + told[-num_lines:])
        super().__init__(f"seed {seed}: {type(why).__name__}: {why}\n{steps}")
        self.why = why


def run(seed: int, *, change: Callable[[], contextlib.AbstractContextManager[Any]] | None = None) -> Outcome:
    """Run the schedule of a seed.

    Args:
        change: a change to the library's code, in force meanwhile.

    Raises:
        Failed: something is wrong.
    """
    schedule = Schedule(seed)
    with schedule.patched(), change() if change is not None else contextlib.nullcontext():
        try:
            schedule.run()
        except Exception as error:
            raise Failed(seed, error, schedule.world.told) from error
        finally:
            schedule.world.close()
    spec = schedule.spec
    return Outcome(schedule.world.told, schedule.world.num_steps, spec.num_reads, spec.num_complete, spec.ended)


class Schedule:
    """Made from its seed alone."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.random = self.world.random
        creates: Creates = self.random.choice(["strict", "strict", "late", "ignored"])
        self.store = Store(self.world, creates)
        self.spec = Spec(self.world, self.store, OUT)
        self.workers = Workers(self.world, self.store, self.spec)
        self.hosts = self._hosts()
        self.history: dict[str, list[Object]] = {}
        self.is_calm = False
        self.store.listeners.append(self._notice)
        # Every fourth has duels; of those every second in the two containers alone, where each run is process 1.
        self.has_duels = seed % 4 == 3
        self.places = self.hosts[2:] if seed % 8 == 7 else self.hosts

    def _hosts(self) -> list[Host]:
        def skew() -> float:
            return self.random.choice([0.0, 0.0, -120.0, 120.0, 3600.0])

        return [
            Host(Machine("studio", "boot-1", "pid:[1]"), skew(), first_pid=100),
            Host(Machine("gpu", "boot-2", "pid:[1]"), skew(), has_gpu=True, first_pid=100),
            # Two containers of one machine that were given one name: in each a run is process 1.
            Host(Machine("box", "boot-3", "pid:[7]"), skew(), first_pid=1),
            Host(Machine("box", "boot-3", "pid:[8]"), skew(), first_pid=1),
        ]

    def _notice(self, path: str, data: bytes | None) -> None:
        writer, world = self.store.writer, self.world
        if writer is None or not path.startswith("labels/"):
            return
        woken = [process for process in world.processes if process.notice(writer, path)]
        if woken:
            for number in range(3):
                name = f"reader-beside-{writer.name}-{number}"
                world.start(name, self.hosts[0], Fate(), self.read, world.now + self.random.uniform(0, 0.5))

    # The library

    def fill(self) -> None:
        """Write the music that there is at first."""
        for number in range(NUM_FILES):
            self.store.put(f"music/{self.random.choice(FOLDERS)}/{number}.mp3", b"1")
        self._favourites()
        self._remember()

    def _favourites(self) -> None:
        tracks = self.store.below("music")
        some = self.random.sample(tracks, min(len(tracks), 3))
        rows = [f"memory://{path},{self.store.entry(path)['etag']}" for path in some]
        self.store.put("lists/favourites.csv", "\n".join(["uri,etag", *rows, ""]).encode())

    def change(self) -> None:
        """Change the library as people do."""
        tracks = self.store.below("music")
        kind = self.random.choice(["add", "replace", "restore", "delete", "rename", "favourites"])
        path = self.random.choice(tracks) if tracks else None
        if kind == "add" or path is None:
            path, kind = f"music/{self.random.choice(FOLDERS)}/{self.random.randrange(100, 200)}.mp3", "add"
            self.store.put(path, b"12")
        elif kind == "replace":
            self.store.put(path, b"1" * self.random.randrange(3, 9))
        elif kind == "restore":
            # An older one, from a backup: the very object that was listed before.
            self.store.objects[path] = self.random.choice(self.history[path])
        elif kind == "delete" and len(tracks) > 3:
            self.store.remove(path)
        elif kind == "rename":
            data = self.store.objects[path]
            self.store.remove(path)
            self.store.objects[f"music/{self.random.choice(FOLDERS)}/r{self.random.randrange(100)}.mp3"] = data
        else:
            self._favourites()
        self._remember()
        self.world.tell(f"the library changes: {kind} {path}")

    def _remember(self) -> None:
        for path in self.store.below("music"):
            known = self.history.setdefault(path, [])
            if self.store.objects[path] not in known:
                known.append(self.store.objects[path])

    # What is planned

    def run(self) -> None:
        """Let it all happen, and at the end look once more at what is there."""
        random, world = self.random, self.world
        self.fill()
        rough = random.choice([0.0, 0.0, 0.004, 0.015])
        moment, moments = 0.0, list[float]()
        for number in range(random.randint(3, 6)):
            moments.append(moment)
            action = self._writer()
            if number and self.has_duels and random.random() < 0.4:
                moment += 60
                self._duel(number, moment)
                moment += 100
            else:
                self.begin(f"{type(action).__name__.lower()}-{number}", action, self._fate(rough), moment)
            moment += random.choice([0.0, 0.3, 5.0, 20.0, 60.0, 150.0])
            if random.random() < 0.5:
                world.at(random.uniform(0, moment + 60), self.change)  # type: ignore[arg-type]
        for number in range(random.randint(4, 8)):
            reader = self.read if random.random() < 0.75 else self.look
            fate = Fate(fault_rate=rough / 2, slow_rate=random.choice([0.0, 0.1, 0.3]))
            host = random.choice(self.hosts)
            # Many beside a writer, some at any time.
            beside = random.choice(moments) + random.uniform(0, 100) ** random.choice([0.5, 1.0])
            when = random.choice([beside, beside, random.uniform(0, moment + 200)])
            world.start(f"reader-{number}", host, fate, reader, when)
        world.run()
        self.finish()

    def finish(self) -> None:
        """Once all is quiet: a complete run of everything, and what it must leave."""
        self.is_calm = True
        for folder in FOLDERS:
            self.store.put(f"music/{folder}/last.mp3", b"1")
        self.world.tell("all is quiet")
        host = self.hosts[1]  # which can do whatever precision was settled
        heads = self.random.choice([("genre", "mood"), ("tags",), ("genre", "tags", "instruments")])
        last = Tag(SOURCES, heads, rescore=heads)
        self.begin("last", last, Fate(), self.world.now + 1, host)
        self.world.run()
        self.world.start("last-reader", host, Fate(), self.read_last, self.world.now + 1)
        self.world.run()

    def read_last(self) -> None:
        """Read what the last run must have left."""
        rows = self.read()
        there = {(f"memory://{path}", self.store.entry(path)["etag"]) for path in self.store.below("music")}
        shown = {(row["uri"], row["etag"]) for row in rows}
        # What a table lists is as that says; a file that it names may be gone, or another by now.
        listed = self.store.objects["lists/favourites.csv"].data.decode().split()[1:]
        named = {tuple(line.split(",")) for line in listed}
        if not there <= shown | named or not shown <= there | named:
            raise Violation(f"the library has {sorted(there)}, and shown is {sorted(shown)}")
        found = status.read_status(OUT)
        if found.num_superseded:
            raise Violation(f"{found.num_superseded} rows that do not count have stayed")
        if found.state != "complete" or found.num_listed != len(rows) or found.num_done != len(rows):
            raise Violation(f"status says {found}, and {len(rows)} tracks are shown")

    def _fate(self, rough: float) -> Fate:
        random = self.random
        fate = Fate(fault_rate=rough, slow_rate=random.choice([0.0, 0.03]))
        # What a process does first is done under a lock that it has only just taken.
        steps = random.choice([40, 160])
        for _ in range(random.choice([0, 0, 1, 1, 2])):
            # Beside the lock's patience of 50 s: so that it wakes while another is at work, or long after.
            duration_s = random.choice([5.0, 30.0, random.uniform(50, 110), random.uniform(50, 110), 300.0])
            fate.suspensions[random.randint(1, steps)] = duration_s
        if random.random() < 0.2:
            fate.killed_after = random.randint(1, steps)
        if random.random() < 0.15:
            fate.outages[random.randint(0, steps)] = random.randint(2, 12)
        return fate

    def _duel(self, number: int, moment: float) -> None:
        """Begin two writers: the first is suspended while it has the lock, and wakes when the second is at work.

        By chance that is rare: what a run does with one object are a few tenths of a second.
        """
        random = self.random
        self.world.at(moment, self.change)  # type: ignore[arg-type]
        own, others = random.choice(DUELS)
        duel = random.randint(1, 10), own, others
        first, second = self._writer(), self._writer()
        if own == "compacted-":
            first = Compact(10**6)
        self.begin(f"{type(first).__name__.lower()}-{number}", first, Fate(duel=duel), moment)
        self.begin(f"{type(second).__name__.lower()}-{number}b", second, Fate(), moment + random.uniform(1, 60))

    def _writer(self) -> Tag | Compact | Prune:
        random = self.random
        kind = random.random()
        if kind < 0.2:
            return Compact(random.choice([20_000, 60_000, 10**6]))
        if kind < 0.27:
            return Prune(random.choice(SOURCES))
        heads = random.choice(
            [("genre",), ("tags", "mood"), ("genre", "tags"), ("genre", "tags", "mood", "instruments")]
        )
        is_other = random.random() < 0.15
        return Tag(
            tuple(random.sample(SOURCES, random.choice([1, 1, 2]))),
            heads,
            limit=random.choice([None, None, None, 3]),
            max_windows=random.choice([None, 2]) if is_other else None,
            precision=random.choice(["auto", "bf16"]) if is_other else "auto",
            rescore=random.choice([(), heads]) if is_other else (),
            retry_errors=random.random() < 0.4,
        )

    def begin(self, name: str, action: Any, fate: Fate, when: float, host: Host | None = None) -> None:
        """Have a process write."""
        host = self.random.choice(self.places) if host is None else host

        def live() -> None:
            process = self.world.process
            process.action = action
            self.world.tell(f"{name} on {host.machine.host} starts: {action}")
            try:
                action.run(OUT)
                how = "done"
            except TonearmError as error:
                self._judge(error, process)
                how = "another writes" if "is writing to" in error.message else type(error).__name__
                self.world.tell(f"{name} ends: {how}: {error.message}")
            else:
                self.world.tell(f"{name} is done")
            self.spec.ended[how] = self.spec.ended.get(how, 0) + 1

        self.world.start(name, host, fate, live, when)

    def _judge(self, error: TonearmError, process: Any) -> None:
        """Raise what is no way to end for a run."""
        is_displaced = process.term is not None and self.spec.is_displaced(process.term, process.looked)
        if self.is_calm:
            raise Violation(f"the last run fails although all is quiet: {type(error).__name__}: {error.message}")
        is_taken = process.term is not None and self.spec.is_displaced(process.term)
        # Not that it cannot be known whether another has.
        says_taken = "has taken over" in error.message and "it cannot be known" not in error.message
        if isinstance(error, Stopped) and says_taken and not is_taken:
            raise Violation(f"a run is stopped although nobody has taken over: {error.message}")
        if isinstance(error, Incomplete) and not is_taken:
            raise Violation(f"a run lacks rows although it has done all: {error.message}")
        if process.num_faults or (isinstance(error, Stopped) and is_taken):
            return
        if isinstance(error, Stopped):
            raise Violation(f"a run breaks off although nothing has befallen it: {error.message}")
        if is_displaced:
            raise Violation(f"a displaced run ends as {type(error).__name__}: {error.message}")
        expected = (
            "is writing to",
            "other settings",
            "is no source of",
            "no finished manifest",
            "no audio in",
            "nothing at",
            "precision fp16 on a CPU",  # what another machine has settled
        )
        if not any(words in error.message for words in expected):
            raise Violation(f"a run ends as {type(error).__name__}: {error.message}")

    # Readers

    def read(self) -> list[dict[str, Any]]:
        """Read all rows that are shown."""
        process, since = self.world.process, self.world.now
        has_any = bool(self.spec.committed)
        rows: list[dict[str, Any]] = []
        try:
            listed = track_rows.listed_rows(OUT)
            others = [name for head in listed.heads for name in (*head.columns, head.settings)]
            for batch in track_rows.scan(OUT, [*COLUMNS, *others], rows=listed):
                rows += batch.to_pylist()
        except (DestinationError, SourceError) as error:
            self._excuse(error, process, has_any)
            return []
        self.spec.check(rows, since)
        self.world.tell(f"{process.name} has read {len(rows)} rows since {since:.2f} s")
        return rows

    def look(self) -> None:
        """Ask for the status."""
        process, since = self.world.process, self.world.now
        has_any = bool(self.spec.committed)
        try:
            found = status.read_status(OUT, is_watched=self.random.random() < 0.6)
        except (DestinationError, SourceError) as error:
            self._excuse(error, process, has_any)
            return
        self.world.tell(f"{process.name}: {found.state}, {found.num_done} of {found.num_listed}")
        if found.state == "killed" and found.holder is not None:
            # As of its last look at the lock: what it reads afterwards takes time too.
            before = process.sighted
            beats = [when for when in self.spec.beats.get(found.holder.token, []) if before - 40 < when < before]
            holder = found.holder
            there = Machine(holder.host, holder.boot_id, holder.pid_namespace)
            alive = any(
                other.pid == holder.pid and other.created == holder.process_started
                for host in self.hosts
                if host.machine == there
                for other in host.processes.values()
            )
            if alive and len(beats) > 1 and not process.num_faults:
                raise Violation(f"status since {since:.2f} s says killed, and the run writes its lock at {beats}")

    def _excuse(self, error: TonearmError, process: Any, has_any: bool) -> None:
        self.world.tell(f"{process.name}: {error.message}")
        is_empty = "no tracks here" in error.message or "holds no run" in error.message
        if process.num_faults or (is_empty and not has_any):
            return
        raise Violation(f"a reader fails: {error.message}")

    # The library's own code in this world

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Put the simulation in place of time, threads, processes, stores and scoring."""
        world, random = self.world, self.random
        filesystem = SimulatedFileSystem(self.store)
        threads = Threading(world)
        pool = type("Pool", (InlinePool,), {"world": world})
        real = run_lock.acquire

        def acquire(*args: Any, **keywords: Any) -> Any:
            world.process.began_to_take = world.now
            found = real(*args, **keywords)
            self.spec.acquired(found.term, found.token)
            world.process.has_lock = True
            return found

        def tag(run: Run, *args: Any, **keywords: Any) -> Any:
            done = tag_(run, *args, **keywords)
            self.spec.completed(listed.pop(run.run_id), run.hold.term, checked[id(run.hold)])
            return done

        def located(url: str) -> filesystems.Place:
            return filesystems.Place(Address.parse(url), filesystem, filesystem._strip_protocol(url))

        def write_manifest(*args: Any, **keywords: Any) -> manifest.RunListing:
            made = write_manifest_(*args, **keywords)
            listed[run_ids[world.process.pid, world.process.name]] = made.keys.tolist()
            return made

        def check(self_: hold.Hold) -> None:
            begun = world.now
            check_(self_)
            checked[id(self_)] = begun

        def is_ours(self_: hold.Hold) -> bool:
            # Of what it ends by, a run can only say what it saw before: not what its beats see, or its release.
            process = world.process
            if world.here() is process.threads[0] and not process.is_releasing:
                process.looked = world.now
            return is_ours_(self_)

        def release(self_: hold.Hold) -> None:
            world.process.is_releasing = True
            release_(self_)

        def look(*args: Any) -> run_lock.Sight:
            world.process.sighted = world.now
            return look_(*args)

        def opened(destination: str, files: Any, wanted: Any, batch_rows: int, known: pa.Schema) -> Iterator[Any]:
            for file in files:
                with pq.ParquetFile(filesystem.open(file.path)) as parquet:
                    there = [name for name in wanted if name in parquet.schema_arrow.names]
                    rows = parquet.read(there, use_threads=False)
                rows = merged_schemas.conformed(rows, pa.schema([known.field(name) for name in wanted]))
                yield from rows.to_batches(batch_rows)

        def now_there() -> datetime.datetime:
            return EPOCH + datetime.timedelta(seconds=world.now + world.process.host.skew_s)

        class Datetime(datetime.datetime):
            @classmethod
            def now(cls, zone: Any = None) -> datetime.datetime:
                return now_there()

        def recorded(destination: Any, run_id: str, *rest: Any) -> Any:
            run_ids[world.process.pid, world.process.name] = run_id
            return recorder(destination, run_id, *rest)

        listed: dict[str, list[int]] = {}
        checked: dict[int, float] = {}
        run_ids: dict[tuple[int, str], str] = {}
        is_ours_, release_, look_ = hold.Hold.is_ours, hold.Hold.release, run_lock.look
        check_, tag_, recorder = hold.Hold.check, driver._tag, driver.ProgressFile
        write_manifest_ = manifest.write_manifest
        times = types.SimpleNamespace(datetime=Datetime, UTC=datetime.UTC)
        num_threads = pa.cpu_count()
        with contextlib.ExitStack() as stack:
            pa.set_cpu_count(1)
            stack.callback(pa.set_cpu_count, num_threads)
            for place, name, value in (
                (filesystems, "locate", located),
                (run_lock, "CLOCK", SimulatedClock(world)),
                (run_lock, "threading", threads),
                (hold, "threading", threads),
                (run_lock, "acquire", acquire),
                (run_lock, "look", look),
                (lock_file, "psutil", Psutil(world)),
                (lock_file, "now", lambda: f"{now_there():{lock_file.SINCE}}"),
                (Machine, "this", lambda: world.process.host.machine),
                (hold.Hold, "check", check),
                (hold.Hold, "is_ours", is_ours),
                (hold.Hold, "release", release),
                (uuid, "uuid4", lambda: uuid.UUID(int=random.getrandbits(128), version=4)),
                (track_rows, "_open_dataset", opened),
                (finished_rows, "ThreadPoolExecutor", pool),
                (merged_schemas, "ThreadPoolExecutor", pool),
                (compaction, "ThreadPoolExecutor", pool),
                (adoption, "planned", runs.planned),
                (manifest, "write_manifest", write_manifest),
                (plans, "check_runtime", lambda models: None),
                (plans, "prepared", lambda plan, *_: plan),
                (driver, "_execute", self.workers.execute),
                (driver, "_tag", tag),
                (driver, "ProgressFile", recorded),
                (driver, "datetime", times),
            ):
                stack.enter_context(mock.patch.object(place, name, value))
            yield
