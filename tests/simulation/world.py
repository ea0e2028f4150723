"""Virtual time and the processes that live in it; one of them runs at a time, and which one is the seed's choice.

Each process runs the library's own code on threads that hand a baton to each other at every operation of the store and
every wait of the lock's clock. Between two such steps no time passes. A process may be suspended at any step, for
longer than the lock is patient, and killed at any step; what it had sent to the store may land all the same.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tonearm.runs.lock.hold import Clock
from tonearm.runs.lock.lock_file import Machine

MAX_STEPS = 30_000
LONG_S = 200.0


class Killed(BaseException):
    """The end of a killed process; nothing that it still does on the way out has an effect."""


class Violation(AssertionError):
    """What must never happen has happened."""


class Endless(Violation):
    """A schedule that does not come to an end."""


@dataclasses.dataclass
class Host:
    """A machine or a container: where a process number means something.

    Attributes:
        skew_s: how far its clock is off.
        processes: those that live, by their number.
    """

    machine: Machine
    skew_s: float = 0.0
    has_gpu: bool = False
    first_pid: int = 100
    processes: dict[int, Process] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Fate:
    """What befalls a process.

    Attributes:
        suspensions: after how many of its steps it is suspended, and for how long.
        killed_after: of its steps; None for never.
        duel: it is suspended so many steps after it has changed an object with this word in its path, and wakes when
            whoever has taken the lock then has changed one with that word; None for never.
        outages: after how many of its steps the store gives it nothing, and for how many operations.
        fault_rate: of its operations.
        slow_rate: of its operations.
    """

    suspensions: dict[int, float] = dataclasses.field(default_factory=dict)
    killed_after: int | None = None
    duel: tuple[int, str, str] | None = None
    outages: dict[int, int] = dataclasses.field(default_factory=dict)
    fault_rate: float = 0.0
    slow_rate: float = 0.0


class Process:
    """One process: its threads stop and die together."""

    def __init__(self, world: World, name: str, host: Host, fate: Fate) -> None:
        self.world, self.name, self.host, self.fate = world, name, host, fate
        self.pid = next(number for number in itertools.count(host.first_pid) if number not in host.processes)
        host.processes[self.pid] = self
        self.created = world.now + host.skew_s
        self.num_steps = 0
        self.has_lock = False  # or had it
        self.suspended_until = 0.0
        self.postponed: list[Callable[[], Actor | None]] = []
        self.sleeps_after: int | None = None  # of its steps; see ``Fate.duel``
        self.is_dead = False
        self.num_faults = 0
        self.threads: list[Actor] = []
        self.term: int | None = None
        self.action: Any = None
        self.began_to_take = 0.0  # the lock
        self.looked = 0.0  # when its first thread began to look at the lock for the last time before it let go of it
        self.is_releasing = False
        self.sighted = 0.0  # when it began to look at anyone's lock for the last time

    def is_cut_off(self) -> bool:
        """Return whether the store gives it nothing at this step."""
        return any(after <= self.num_steps < after + count for after, count in self.fate.outages.items())

    def stepped(self) -> bool:
        """Count a step; return whether the process is suspended by it."""
        self.num_steps += 1
        duration_s = self.fate.suspensions.get(self.num_steps)
        if self.num_steps == self.sleeps_after:
            duration_s = LONG_S
        if duration_s is not None:
            self.suspended_until = self.world.now + duration_s
            self.postponed.clear()
            self.world.tell(f"{self.name} is suspended for {duration_s:.0f} s")
        if self.num_steps == self.fate.killed_after:
            self.kill()
        return duration_s is not None

    def notice(self, other: Process, path: str) -> bool:
        """Fall asleep soon, or wake, if the change that ``other`` has made is the one; return whether it wakes."""
        if self.fate.duel is None or not other.has_lock or self.is_dead:
            return False
        num_steps, own, others = self.fate.duel
        is_asleep = self.suspended_until > self.world.now
        if other is self:
            if own in path and (self.sleeps_after is None or self.sleeps_after > self.num_steps):
                self.sleeps_after = self.num_steps + num_steps
            return False
        if not is_asleep or others not in path:
            return False
        self.world.tell(f"{self.name} wakes beside {other.name}")
        self.suspended_until = self.world.now
        for resume in self.postponed:
            self.world.at(self.world.now, resume)
        return True

    def kill(self) -> None:
        """End it: its threads end at their next step."""
        if self.is_dead:
            return
        self.world.tell(f"{self.name} is killed")
        self.leave()
        for actor in self.threads:
            self.world.wake(actor)

    def leave(self) -> None:
        """Take it from its machine's list."""
        self.is_dead = True
        self.host.processes.pop(self.pid, None)


class Actor:
    """One thread of a process."""

    def __init__(self, process: Process, run: Callable[[], None], name: str) -> None:
        self.process, self.name = process, name
        self.baton = threading.Semaphore(0)
        self.has_ended = False
        self.turn = 0  # only the last wake-up that was planned counts
        self.waiting: list[Actor] = []
        self._run = run
        self.thread = threading.Thread(target=self._live, name=name, daemon=True)
        process.threads.append(self)

    def _live(self) -> None:
        world = self.process.world
        self.baton.acquire()
        world.current = self
        try:
            if not self.process.is_dead:
                self._run()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001
            world.failures.append(error)
        self.has_ended = True
        for other in self.waiting:
            world.wake(other)
        world.dispatch(self)


class World:
    """Everything that happens in one schedule.

    Args:
        seed: decides all of it.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.current: Actor | None = None
        self.failures: list[BaseException] = []
        self.told: list[str] = []
        self.num_steps = 0
        self.processes: list[Process] = []
        self.is_closed = False
        self._events: list[tuple[float, int, Callable[[], Actor | None]]] = []
        self._order = itertools.count()
        self._done = threading.Semaphore(0)

    # What is told

    def tell(self, line: str) -> None:
        """Note a step in words."""
        self.told.append(f"{self.now:9.2f} s  {line}")

    # Time

    def at(self, when: float, action: Callable[[], Actor | None]) -> None:
        """Have ``action`` done at a moment; the thread that it returns runs next."""
        heapq.heappush(self._events, (when, next(self._order), action))

    def wake(self, actor: Actor, when: float | None = None) -> None:
        """Have ``actor`` go on at a moment, unless it is woken before."""
        actor.turn += 1
        turn = actor.turn

        def resume() -> Actor | None:
            if actor.has_ended or actor.turn != turn:
                return None
            process = actor.process
            if process.suspended_until > self.now and not process.is_dead:
                process.postponed.append(resume)
                self.at(process.suspended_until, resume)
                return None
            return actor

        self.at(self.now if when is None else when, resume)

    def pause(self, when: float) -> None:
        """Let others go on until a moment, or until this thread is woken."""
        actor = self.here()
        if actor.process.is_dead:
            raise Killed
        self.wake(actor, when)
        self.dispatch(actor)
        if actor.process.is_dead:
            raise Killed

    def wait(self) -> None:
        """Let others go on until this thread is woken."""
        self.pause(self.now + 10**9)

    def here(self) -> Actor:
        """Return the thread that runs."""
        if self.current is None or threading.current_thread() is not self.current.thread:
            raise RuntimeError(
                f"a step on {threading.current_thread().name}, which is none of the simulation's threads"
            )
        return self.current

    @property
    def process(self) -> Process:
        """The process that runs."""
        return self.here().process

    def dispatch(self, actor: Actor | None) -> None:
        """Do what comes next until it is ``actor``'s turn again."""
        while self._events and not self.failures and not self.is_closed:
            when, _, action = heapq.heappop(self._events)
            self.now = max(self.now, when)
            self.num_steps += 1
            if self.num_steps > MAX_STEPS:
                self.failures.append(Endless(f"no end after {MAX_STEPS:,} steps"))
                break
            try:
                following = action()
            except Violation as error:
                self.failures.append(error)
                break
            if following is None:
                continue
            if following is actor:
                self.current = actor
                return
            following.baton.release()
            if actor is None or not actor.has_ended:
                self._park(actor)
            return
        self._done.release()
        if actor is not None and not actor.has_ended:
            self._park(actor)

    def _park(self, actor: Actor | None) -> None:
        if actor is None:
            return
        actor.baton.acquire()
        self.current = actor

    def run(self) -> None:
        """Do everything that is planned; raise the first failure."""
        self.dispatch(None)
        self._done.acquire()
        if self.failures:
            raise self.failures[0]

    def close(self) -> None:
        """End the threads that are left, without effect."""
        self.is_closed = True
        for process in self.processes:
            process.is_dead = True
        for process in self.processes:
            for actor in process.threads:
                if not actor.has_ended:
                    actor.baton.release()
                    actor.thread.join(5)

    # Processes

    def start(self, name: str, host: Host, fate: Fate, run: Callable[[], None], when: float = 0.0) -> None:
        """Begin a process at a moment."""

        def begin() -> Actor:
            process = Process(self, name, host, fate)
            self.processes.append(process)

            def live() -> None:
                try:
                    run()
                finally:
                    process.leave()

            return self.spawn(process, live, name)

        self.at(when, begin)

    def spawn(self, process: Process, run: Callable[[], None], name: str) -> Actor:
        """Return a new thread of a process; whoever calls this wakes it."""
        actor = Actor(process, run, name)
        actor.thread.start()
        return actor


class SimulatedClock(Clock):
    """The lock's clock in virtual time."""

    def __init__(self, world: World) -> None:
        self.world = world

    def monotonic(self) -> float:
        """Return seconds."""
        return self.world.now

    def sleep(self, seconds: float) -> None:
        """Let others go on for ``seconds``."""
        process = self.world.process
        process.stepped()
        self.world.pause(self.world.now + seconds)

    def wait(self, event: Any, seconds: float) -> bool:
        """Let others go on for ``seconds``, or until ``event`` is set."""
        return bool(event.wait(seconds))


class Threading:
    """What the library uses of ``threading``, on the simulation's threads."""

    def __init__(self, world: World) -> None:
        world_ = world

        class Thread:
            def __init__(self, target: Callable[[], None], name: str = "", daemon: bool = True) -> None:
                process = world_.process
                self.actor = world_.spawn(process, target, f"{process.name}/{name}")

            def start(self) -> None:
                world_.wake(self.actor)

            def join(self) -> None:
                while not self.actor.has_ended:
                    self.actor.waiting.append(world_.here())
                    world_.wait()

        class Event:
            def __init__(self) -> None:
                self.is_set_, self.waiting = False, list[Actor]()

            def is_set(self) -> bool:
                return self.is_set_

            def set(self) -> None:
                self.is_set_ = True
                for actor in self.waiting:
                    world_.wake(actor)

            def wait(self, seconds: float = 10**9) -> bool:
                until = world_.now + seconds
                while not self.is_set_ and world_.now < until:
                    self.waiting.append(world_.here())
                    world_.pause(until)
                    self.waiting.clear()
                return self.is_set_

        class RLock:
            def __init__(self) -> None:
                self.owner: Actor | None = None
                self.depth, self.waiting = 0, list[Actor]()

            def __enter__(self) -> RLock:
                actor = world_.here()
                while self.owner not in (None, actor):
                    self.waiting.append(actor)
                    world_.wait()
                self.owner, self.depth = actor, self.depth + 1
                return self

            def __exit__(self, *_: object) -> None:
                self.depth -= 1
                if not self.depth:
                    self.owner = None
                    for actor in self.waiting:
                        world_.wake(actor)
                    self.waiting.clear()

        self.Thread, self.Event, self.RLock, self.Lock = Thread, Event, RLock, threading.Lock


class InlinePool:
    """A ``ThreadPoolExecutor`` whose tasks run one after the other, in any order."""

    world: World

    def __init__(self, max_workers: int = 1, thread_name_prefix: str = "") -> None:
        pass

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """Return what ``function`` makes of each value, in their order."""
        given = list(values)
        order = self.world.random.sample(range(len(given)), len(given))
        results: dict[int, Any] = {}
        for place in order:
            results[place] = function(given[place])
        return iter([results[place] for place in range(len(given))])


class Psutil:
    """What the lock asks of ``psutil``: the processes of the machine that asks."""

    STATUS_ZOMBIE = "zombie"

    class Error(Exception):
        """The machine does not say."""

    class NoSuchProcess(Error):
        """There is none."""

    def __init__(self, world: World) -> None:
        errors = type(self)

        class Found:
            def __init__(self, pid: int | None = None) -> None:
                process = world.process
                found = process if pid is None else process.host.processes.get(pid)
                if found is None:
                    raise errors.NoSuchProcess
                self.pid, self._found = found.pid, found

            def create_time(self) -> float:
                return self._found.created

            def status(self) -> str:
                return "running"

        self.Process = Found
