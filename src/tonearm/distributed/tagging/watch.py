"""Watching a run from its driver: what ends it, and how a failure is explained."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import ray

from tonearm.distributed.cluster import session
from tonearm.distributed.tagging.counters import ANSWERS_IN_S, RunCounters
from tonearm.errors import DestinationError, FetchError, Stopped, TonearmError, causes
from tonearm.planning.layout import Layout, stuck
from tonearm.runs.counts import Counts
from tonearm.runs.rows import schema
from tonearm.runs.todo import TodoPart
from tonearm.settings import FetchSettings
from tonearm.sources.reader import ObjectReader
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems
from tonearm.storage.store_errors import STORE_CODES
from tonearm.storage.uris import shown
from tonearm.watchers import Watcher
from tonearm.wording import counted

# Reads that failed one after the other, over all workers, before the store itself is suspected.
REFUSED_READS = 24
# Others that are tried then, some at once, until one can be read.
NUM_PROBES, PROBES_AT_ONCE = 32, 8
PROBE_S = 20.0
# What Ray adds to the message of an error in a worker: how often it tried, and which of its settings say so.
RAYS_ADVICE = re.compile(r"\nFailed to .* after \d+/\d+ attempts|\nTo change retry attempts")


class RunFailure:
    """The failure of a whole run, reported by a worker that cannot start or by one of the guards."""

    def __init__(self, counters: RunCounters) -> None:
        self.counters = counters
        self.failure: TonearmError | None = None

    def fail(self, failure: TonearmError, *, wake: bool = False) -> None:
        """End the run with ``failure``: its tasks raise it when they next look.

        Args:
            wake: no task may start any more that could raise it, so the driver's main thread is woken as by Ctrl-C.
        """
        # Kept here too, as the counters do not answer once the Ray head node is gone.
        self.failure = failure
        if wake:
            interrupt_main_thread()
        self.counters.fail(failure)

    def read(self) -> TonearmError | None:
        """Return the failure that was reported, if any."""
        if self.failure is not None:
            return self.failure
        try:
            return self.counters.read(ANSWERS_IN_S).failure
        except ray.exceptions.RayError:
            return None


# Not SIGINT: shells make background jobs ignore it.
WAKE = signal.SIGUSR1


def interrupt_main_thread() -> None:
    """Raise KeyboardInterrupt in the main thread, which is in ``interruptible``."""
    signal.pthread_kill(threading.main_thread().ident or 0, WAKE)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have ``interrupt_main_thread`` and a scheduler's SIGTERM interrupt the main thread while the block runs there.

    On other threads nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # Ray replaces the handler of SIGTERM when it starts, and its own ends the driver without a message.
    before = {number: signal.signal(number, interrupt) for number in (WAKE, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StoreGuard:
    """Stops a run whose store gives nothing any more, before it writes a failed row for every track that is left."""

    def __init__(self, run_failure: RunFailure, todo: Sequence[TodoPart], settings: FetchSettings) -> None:
        self.run_failure = run_failure
        self.todo = todo
        timeout_s = min(settings.timeout_s, PROBE_S)
        self.reader = ObjectReader(dataclasses.replace(settings, num_attempts=1, timeout_s=timeout_s))
        self.limit = REFUSED_READS

    def look(self, counts: Counts) -> None:
        """Have the workers stop when the store refuses everything."""
        if counts.refused_in_a_row < self.limit:
            self.limit = REFUSED_READS
            return
        # Some objects may be refused for good, so failures in a row prove nothing: others are tried too.
        why = self._probe()
        if why is None:
            # The store is well. The next probe waits for twice as many failures, or every poll would probe again.
            self.limit = 2 * counts.refused_in_a_row
            return
        failed = counted(counts.refused_in_a_row, "read")
        message = f"nothing can be read any more: {why} ({failed} failed one after the other)"
        advice = "Mend that and run the same command: it goes on, and reads what failed again"
        self.run_failure.fail(Stopped(f"{message}; the rows already written stay. {advice}"))

    def _probe(self) -> str | None:
        """Return why none of a few tracks can be read, or None when one of them can."""
        try:
            refs = self._sample()
        except filesystems.store_errors(filesystems.scheme(self.todo[0].url)) as error:
            return filesystems.reason(error)
        why = None
        with ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="probe") as pool:
            for first in range(0, len(refs), PROBES_AT_ONCE):
                answers = list(pool.map(self._refusal, refs[first : first + PROBES_AT_ONCE]))
                if None in answers:
                    return None
                why = why or answers[0]
        return why

    def _sample(self) -> list[TrackRef]:
        part = random.choice(self.todo)
        table = filesystems.read_table(part.url, schema.MANIFEST.names)
        rows = random.sample(range(table.num_rows), min(NUM_PROBES, table.num_rows))
        return [TrackRef(**row) for row in table.take(rows).to_pylist()]

    def _refusal(self, ref: TrackRef) -> str | None:
        try:
            self.reader.read(ref)
        except FetchError as error:
            return error.message if error.code in STORE_CODES else None
        return None


class ClusterGuard:
    """Stops a run that cannot finish because the cluster has shrunk and does not grow again."""

    def __init__(self, run_failure: RunFailure, layout: Layout, timeout_s: float) -> None:
        self.run_failure = run_failure
        self.layout = layout
        # A cluster that grows by itself gets no less than it needs to grow.
        self.patience_s = max(timeout_s, session.growth_s())
        self.since: float | None = None

    def look(self, counts: Counts) -> None:
        """End the run when it has been stuck for longer than new nodes take."""
        if self.layout.is_local:
            return
        why = stuck(session.node_resources(), self.layout)
        if why is None:
            self.since = None
            return
        self.since = self.since or time.monotonic()
        if time.monotonic() - self.since < self.patience_s:
            return
        message = f"the cluster has shrunk, and {why}; the rows already written stay"
        self.run_failure.fail(
            Stopped(f"{message}. Run the same command to resume with the nodes that are left"), wake=True
        )


class RayHeadGuard:
    """Stops a run whose Ray head node is gone, before Ray ends the driver without a message."""

    def __init__(self, run_failure: RunFailure, place: str, timeout_s: float) -> None:
        self.run_failure = run_failure
        self.place = place
        self.timeout_s = timeout_s
        self.address = session.ray_head_address()
        self.since: float | None = None

    def look(self) -> None:
        """End the run when nothing has listened at the head node's address for ``timeout_s``."""
        # A TCP connection and no call of Ray: a call blocks once the head node is gone, and the guard with it.
        try:
            socket.create_connection(self.address, timeout=5).close()
        except OSError:
            self.since = self.since or time.monotonic()
        else:
            self.since = None
        if self.since is None or time.monotonic() - self.since < self.timeout_s or self.run_failure.failure is not None:
            return
        where = "{}:{}".format(*self.address)
        message = f"the head of the cluster at {where} has been gone for {self.timeout_s:g} s"
        message += f"; what is written in {self.place} stays"
        self.run_failure.fail(
            Stopped(f"{message}. Run the same command to resume, on any cluster or without one"), wake=True
        )


class Guard(Protocol):
    """Looks at a run's counts now and then, and ends it when something is wrong with the whole of it."""

    def look(self, counts: Counts) -> None: ...


@contextlib.contextmanager
def report_progress(
    counters: RunCounters, watcher: Watcher, guards: Sequence[Guard] = (), ray_head: RayHeadGuard | None = None
) -> Iterator[None]:
    """Tell ``watcher`` every 0.5 s what the stages have reported, while the block runs."""

    def look() -> None:
        counts = counters.read(ANSWERS_IN_S)
        watcher.progress(counts)
        for guard in guards:
            if counts.failure is None:
                guard.look(counts)

    with interruptible(), contextlib.ExitStack() as stack:
        # On another thread: the first one waits for the counters, which do not answer without the head node.
        if ray_head is not None:
            stack.enter_context(session.background_poll(ray_head.look))
        stack.enter_context(session.background_poll(look))
        yield
        watcher.progress(counters.read())


@contextlib.contextmanager
def explain_failures(place: str, run_failure: RunFailure) -> Iterator[None]:
    """Turn what stops a whole run into one line; every file already written stays."""
    try:
        yield
    except KeyboardInterrupt:
        if (failure := run_failure.read()) is not None:
            raise failure from None
        raise Stopped(f"stopped; what is written in {place} stays. Run the same command to resume") from None
    except TonearmError:
        raise
    except Exception as error:
        if (failure := run_failure.read()) is not None:
            raise failure from None
        raise _explain(error, place) from error


def _explain(error: Exception, place: str) -> TonearmError:
    chain = list(causes(error, "cause"))
    for cause in chain:
        if isinstance(cause, TonearmError) and not isinstance(cause, DestinationError):
            return cause
        if getattr(cause, "errno", None) == errno.ENOSPC or "No space left on device" in str(cause):
            return Stopped(
                f"the disk under {shown(place)} or under Ray's temporary folder is full; the rows already written "
                "stay. Free some space and run the same command to resume"
            )
    lines = RAYS_ADVICE.split(str(chain[-1]))[0].strip().splitlines() or ["no message"]
    return Stopped(
        f"the run broke off: {type(chain[-1]).__name__}: {lines[-1]}; the rows already written in {shown(place)} "
        f"stay. Run the same command to resume; Ray's own words are in {session.log_path()}"
    )
