"""One run at a time writes to a destination: a lock beside its checkpoints, on disk and on object storage alike.

The lock is a small file that its holder writes anew every ``BEAT_S``. On the holder's own machine a dead process frees
it at once; from elsewhere it counts as held until it has not changed for ``STALE_S``. Neither needs the two machines'
clocks to agree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import psutil

from tonearm.errors import DestinationError
from tonearm.library import stores
from tonearm.library.runs import Destination
from tonearm.library.uris import shown

BEAT_S = 15.0
STALE_S = 50.0
POLL_S = 2.0
# A run that was told to stop a moment ago needs a few seconds to end.
GRACE_S = 5.0
SINCE = "%Y-%m-%d %H:%M:%S"


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock; ``beat`` changes with every writing."""

    token: str
    host: str
    pid: int
    process_started: float
    since: str
    beat: int = 0
    at: str = ""

    @property
    def last_beat(self) -> datetime.datetime:
        """When it was last written, UTC by the holder's own clock."""
        return datetime.datetime.strptime(self.at or self.since, SINCE).replace(tzinfo=datetime.UTC)

    def is_dead(self) -> bool:
        """Return whether this was a process of this machine that is gone."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.create_time() != self.process_started or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


@dataclasses.dataclass(frozen=True)
class Hold:
    term: int = 1

    def check(self) -> None:
        pass


def read_holder(destination: Destination) -> Holder | None:
    """Return who holds the lock of a tagging run's ``destination``, dead or alive; None when no one does."""
    return _read(_lock_url(destination))


def held(
    destination: Destination, *, waiting: Callable[[str], None] | None = None
) -> contextlib.AbstractContextManager[Hold]:
    """Hold the lock of a tagging run's ``destination``; see ``held_at``."""
    return held_at(_lock_url(destination), destination.url, waiting=waiting)


def _lock_url(destination: Destination) -> str:
    return destination.join("_checkpoint", "lock.json")


@contextlib.contextmanager
def held_at(url: str, place: str, *, waiting: Callable[[str], None] | None = None) -> Iterator[Hold]:
    """Hold the lock ``url`` of ``place`` while the block runs.

    Args:
        waiting: told, once, whom a lock that may be stale belongs to, before it is watched for ``STALE_S``.

    Raises:
        DestinationError: another run is writing there.
    """
    _await_free(url, place, waiting)
    process = psutil.Process()
    own = Holder(uuid.uuid4().hex, socket.gethostname(), process.pid, process.create_time(), _now())
    _write(url, own)
    # Two that found it free in the same moment: the one whose writing came last has it.
    holder = _read(url)
    if holder is not None and holder.token != own.token:
        raise _taken(place, holder)
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(url, own, ended), name="lock", daemon=True)
    thread.start()
    try:
        yield Hold()
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(DestinationError):
            stores.delete(url)


def _await_free(url: str, place: str, waiting: Callable[[str], None] | None) -> None:
    found = _read(url)
    if found is None or found.is_dead():
        return
    is_here = found.host == socket.gethostname()
    if waiting is not None and not is_here:
        waiting(f"{_who(found)} wrote there last; waiting {STALE_S:.0f} s to see whether it still does")
    ends = time.monotonic() + (GRACE_S if is_here else STALE_S)
    while time.monotonic() < ends:
        time.sleep(GRACE_S / 20 if is_here else POLL_S)
        now = _read(url)
        if now is None or now.is_dead():
            return
        if now != found and not is_here:
            raise _taken(place, now)
    if is_here:
        raise _taken(place, found)


def _taken(place: str, holder: Holder) -> DestinationError:
    return DestinationError(
        f"{_who(holder)} is writing to {shown(place)}; wait until it is done, stop it, or give another --out"
    )


def _who(holder: Holder) -> str:
    return f"another run (process {holder.pid} on {holder.host}, since {holder.since} UTC)"


def _beat(url: str, own: Holder, ended: threading.Event) -> None:
    beat = 0
    while not ended.wait(BEAT_S):
        beat += 1
        # A store that fails for a while must not end the run: the rows are safe without the lock.
        with contextlib.suppress(DestinationError):
            _write(url, dataclasses.replace(own, beat=beat, at=_now()))


def _now() -> str:
    return time.strftime(SINCE, time.gmtime())


def _write(url: str, holder: Holder) -> None:
    stores.write_text(url, json.dumps(dataclasses.asdict(holder)))


def _read(url: str) -> Holder | None:
    failures: tuple[type[Exception], ...] = (ValueError, TypeError, *stores.store_errors(stores.scheme(url)))
    try:
        return Holder(**json.loads(stores.read_bytes(url)))
    except failures:
        return None
