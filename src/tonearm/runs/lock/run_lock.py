"""The lock of a destination: only one run writes to it at a time. The same on disk and on object storage.

Each holding has a *term*, one more than the last one's. A run claims a term by creating an object only if it is absent,
and only after it has found the last term to be over. So the claims form a chain of which at most one is alive. A term
is over if

- its holder has said so at its end;
- or its holder was a process of this machine (same boot, same PID namespace) that is gone;
- or its holder was silent: a holder writes the lock every ``HEARTBEAT_S``, and nothing changed while the lock was
  watched for ``STALE_S`` by the watcher's clock. Clocks of two machines are never compared.

A holder that was only suspended, or whose store failed for a while, finds the next claim when it reads the lock: before
each heartbeat, before each execution of its run, and before it deletes the lock. It then stops; rows that it has
written too late rank below those of the higher term.

Some servers let several clients create the same object: Swift checks first and writes later. So on object stores a
claim is also a *splitter* (Lamport, "A fast mutual exclusion algorithm", 1987), which only needs reads to return the
last write: write your name on the claim; lose if its door is closed; close the door; lose if the claim has another
name. At most one run gets through. If all lose, the run whose name is on the claim continues with the next term.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

from tonearm.errors import DestinationError, Incomplete, SourceError, Stopped
from tonearm.runs.destination import Destination
from tonearm.runs.lock import lock_file
from tonearm.runs.lock.hold import Clock as Clock
from tonearm.runs.lock.hold import Hold as Hold
from tonearm.runs.lock.lock_file import Holder as Holder
from tonearm.runs.lock.lock_file import Machine as Machine
from tonearm.runs.places import LOCK, PROBE
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.watchers import Say

HEARTBEAT_S = 15.0
STALE_S = 50.0
POLL_S = 2.0
# How long to wait for a run on this machine that may be ending: one that was told to stop needs a few seconds.
ENDING_RUN_TIMEOUT_S = 5.0
# How long to wait, after a claim that others may have made too, until the store shows which was written last.
SETTLE_S = 3.0
NUM_CLAIMS = 20
# Claims that are kept: a run that was suspended has to find its successor's.
KEPT_TERMS = 100
CLOCK = Clock()


@contextlib.contextmanager
def held(destination: Destination, *, waiting: Say | None = None) -> Iterator[Hold]:
    """Hold the lock of a tagging run's ``destination``; see ``held_at``.

    Raises:
        DestinationError: as ``held_at``, or nothing may be deleted there.
    """
    _check_deletes(destination)
    with held_at(lock_url(destination), destination.url, waiting=waiting) as hold:
        yield hold


def _check_deletes(destination: Destination) -> None:
    """Raise DestinationError if nothing may be deleted; otherwise Ray Data would fail only after its first file."""
    url = destination.checkpoint(PROBE)
    filesystems.write_text(url, "")
    try:
        filesystems.delete(url)
    except DestinationError as error:
        raise DestinationError(
            f"{error.message}. tonearm must be allowed to delete below {shown(destination.url)}: each file of rows is "
            "marked as begun, and is whole once that mark is deleted. Nothing else was written, and no row is lost"
        ) from None


def lock_url(destination: Destination) -> str:
    """Return the URL of the lock of a tagging run's ``destination``."""
    return destination.checkpoint(LOCK)


@contextlib.contextmanager
def held_at(url: str, place: str, *, waiting: Say | None = None) -> Iterator[Hold]:
    """Hold the lock ``url`` of ``place`` while the block runs; see ``acquire`` and ``Hold``.

    Raises:
        DestinationError: as ``acquire``.
        Stopped: instead of the block's own error, if another run has taken the lock meanwhile.
    """
    hold = acquire(url, place, waiting=waiting)
    ended = threading.Event()

    def beat() -> None:
        while hold.lost is None and not hold.clock.wait(ended, HEARTBEAT_S):
            hold.beat()

    thread = threading.Thread(target=beat, name="lock", daemon=True)
    thread.start()
    try:
        yield hold
    except (DestinationError, SourceError, Incomplete):
        # If another run has taken over, that explains missing files and changed facts: report it instead.
        with contextlib.suppress(DestinationError):
            hold.is_ours()
        raise
    finally:
        ended.set()
        thread.join()
        hold.release()


@dataclasses.dataclass(frozen=True)
class Sight:
    """The state of a lock's files at one moment.

    Attributes:
        term: the highest term that is claimed; 0 for none.
        holder: who has that term; None if nobody, or if the files cannot be parsed.
        is_over: whether that term is known to have ended.
        lock: the holder in the lock itself; None if there is no lock.
    """

    term: int
    holder: Holder | None
    is_over: bool
    lock: Holder | None


def look(url: str, place: str, machine: Machine | None = None) -> Sight:
    """Return the present state of the lock's files.

    Raises:
        DestinationError: the store cannot be read, or a file is not a lock.
    """
    lock = lock_file.read(url, place)
    term = max([*lock_file.list_claims(url), lock.term if lock is not None else 0])
    claim = lock_file.read_claim(url, term) if term else None
    # Listings may lag behind reads, on Swift and on NFS. Claims have no gaps, so later ones are found by reading.
    while (next_claim := lock_file.read_claim(url, term + 1)) is not None:
        term, claim = term + 1, next_claim
    claimed_by = claim.holder if claim is not None else None
    # Runs of 0.1.0 have no terms (0), so their lock counts whatever is claimed.
    holder = lock if lock is not None and lock.term in (0, term) else claimed_by
    is_over = holder is not None and (holder.released or holder.is_dead(machine))
    if claim is None and holder is None:
        is_over = True  # there is nothing, or the claim was deleted as an old one since it was listed
    if claimed_by is not None and claimed_by.released and holder is not None and holder.token == claimed_by.token:
        is_over, holder = True, claimed_by  # killed at its end, after the claim and before the lock was deleted
    return Sight(term, holder, is_over, lock)


def acquire(
    url: str,
    place: str,
    *,
    waiting: Say | None = None,
    clock: Clock | None = None,
    machine: Machine | None = None,
) -> Hold:
    """Acquire the lock ``url`` of ``place`` and return it; the caller has to call ``beat`` and ``release``.

    Args:
        waiting: called with a line before a lock that may be stale is watched, which says whose it is, and before
            waiting for a store that does not create objects exclusively.
        clock: the clock to wait by; ``CLOCK`` if None.
        machine: the machine that this runs on; that of this process if None.

    Raises:
        DestinationError: another run is writing there, the store cannot be read, or a file is not a lock.
    """
    clock, waiting = clock or CLOCK, waiting or (lambda line: None)
    this_run = Holder.of_this_process(machine)
    for _ in range(NUM_CLAIMS):
        this_run = dataclasses.replace(this_run, term=_await_over(url, place, this_run, waiting, clock, machine) + 1)
        hold = Hold(url, place, this_run, clock)
        if _take(hold, waiting):
            _delete_old_claims(url, this_run.term)
            return hold
    raise _taken_error(place, look(url, place, machine).holder)


def _take(hold: Hold, waiting: Say) -> bool:
    """Claim the lock and write it; return whether it is this run's."""
    url, place, this_run = hold.url, hold.place, hold.holder
    with contextlib.ExitStack() as on_error:
        # Interrupted: release the claim, so that the next run need not wait for a run that never began.
        on_error.callback(_release_claim, url, this_run)
        try:
            is_taken = _try_claim(url, place, this_run, waiting, hold.clock)
            if is_taken:
                lock_file.write(url, this_run)
                if not hold.is_ours():
                    lock_file.write(url, this_run)
        except Stopped:
            # Between the claim and here so much time passed that another run took this one for dead.
            is_taken = False
            with contextlib.suppress(DestinationError):
                written = lock_file.read(url, place)
                if written is not None and written.token == this_run.token:
                    filesystems.delete(url)
        on_error.pop_all()
    return is_taken


def _release_claim(url: str, this_run: Holder) -> None:
    with contextlib.suppress(DestinationError):
        if _is_claimed_by(url, this_run):
            lock_file.write(lock_file.claim_url(url, this_run.term), dataclasses.replace(this_run, released=True))


def _await_over(
    url: str,
    place: str,
    this_run: Holder,
    waiting: Say,
    clock: Clock,
    machine: Machine | None,
) -> int:
    """Wait until the highest term is over and return it; raise DestinationError if its holder is alive."""
    first_sight = look(url, place, machine)
    if first_sight.is_over:
        return first_sight.term
    # The term's claim may have this run's name: all who tried lost (see the module's docstring).
    is_own_claim = first_sight.holder is not None and first_sight.holder.token == this_run.token
    is_here = not is_own_claim and first_sight.holder is not None and first_sight.holder.is_here(machine)
    patience_s = SETTLE_S if is_own_claim else ENDING_RUN_TIMEOUT_S if is_here else STALE_S
    poll_s = min(POLL_S, patience_s / 20 if is_own_claim or is_here else POLL_S)
    if not is_own_claim and not is_here:
        holder_text = first_sight.holder.who if first_sight.holder is not None else "another run"
        waiting(f"{holder_text} wrote there last; waiting {patience_s:.0f} s to see whether it still does")
    sight = first_sight
    for sight in _watch_sights(url, place, patience_s, poll_s, clock, machine):
        if sight.is_over:
            return sight.term
        # On another machine a heartbeat proves that it runs. A run here may be about to end even if it still beats.
        if sight != first_sight and not is_here:
            raise _taken_error(place, sight.holder)
    if is_here:
        raise _taken_error(place, sight.holder)
    return sight.term


def _watch_sights(
    url: str, place: str, patience_s: float, poll_s: float, clock: Clock, machine: Machine | None = None
) -> Iterator[Sight]:
    """Yield the lock's state every ``poll_s``, until it has been watched for ``patience_s``."""
    watched_s, last_s = 0.0, clock.monotonic()
    while watched_s < patience_s:
        clock.sleep(poll_s)
        # Taken before the lock is read, so that the read covers all of the counted time. No gap counts for more than
        # two polls: a machine that was suspended for an hour has not watched the lock for an hour.
        now_s = clock.monotonic()
        watched_s += min(now_s - last_s, 2 * poll_s)
        last_s = now_s
        yield look(url, place, machine)


def _try_claim(url: str, place: str, this_run: Holder, waiting: Say, clock: Clock) -> bool:
    """Claim the term of ``this_run``; return whether it has the term, and no other run does."""
    claim, data = lock_file.claim_url(url, this_run.term), lock_file.to_json(this_run).encode()
    try:
        filesystems.create_bytes(claim, data)
    except FileExistsError:
        # It may be this run's: if the response to the first request is lost, the client sends it again.
        if not _is_claimed_by(url, this_run):
            return False
    # A second time, to learn whether the store refuses to create what exists; some ignore the condition.
    try:
        filesystems.create_bytes(claim, data)
        is_strict = False
    except FileExistsError:
        is_strict = True
    if is_strict and filesystems.is_local(url):
        return True
    door = lock_file.claim_url(url, this_run.term, "closed")
    if lock_file.is_there(door):
        return False
    filesystems.write_text(door, this_run.token)
    if not is_strict:
        waiting(
            f"the store of {shown(place)} lets two runs create one object (it ignores If-None-Match); waiting "
            f"{SETTLE_S:.0f} s to see which of them has it"
        )
        clock.sleep(SETTLE_S)
    return _is_claimed_by(url, this_run)


def _is_claimed_by(url: str, this_run: Holder) -> bool:
    claim = lock_file.read_claim(url, this_run.term)
    return claim is not None and claim.holder is not None and claim.holder.token == this_run.token


def _delete_old_claims(url: str, term: int) -> None:
    """Delete claims older than ``KEPT_TERMS`` terms; errors of the store are ignored."""
    with contextlib.suppress(DestinationError):
        for old_term in lock_file.list_claims(url):
            if old_term < term - KEPT_TERMS:
                # The door first: a claim that can be created again must not find its door closed.
                filesystems.delete(lock_file.claim_url(url, old_term, "closed"))
                filesystems.delete(lock_file.claim_url(url, old_term))


def _taken_error(place: str, holder: Holder | None) -> DestinationError:
    holder_text = holder.who if holder is not None else "another run"
    return DestinationError(
        f"{holder_text} is writing to {shown(place)}; wait until it is done, stop it, or give another destination"
    )


@dataclasses.dataclass(frozen=True)
class Watched:
    """Whether somebody holds a lock, as seen from this machine.

    Attributes:
        silent_s: how long a holder on another machine was watched, by this machine's clock: until its heartbeat, or to
            the end; None if watching was not needed.
    """

    holder: Holder | None
    is_alive: bool
    silent_s: float | None = None


def read_holder(destination: Destination) -> Holder | None:
    """Return who holds the lock of a tagging run's ``destination``, dead or alive; None if nobody does.

    Raises:
        DestinationError: the store cannot be read, or the file is not a lock.
    """
    return _current_holder(look(lock_url(destination), destination.url))


def _current_holder(sight: Sight) -> Holder | None:
    """Return who has the lock, or had it when killed; None for a claim without a lock, which never began to write."""
    holder = sight.holder if sight.lock is not None else None
    return None if holder is None or holder.released or (sight.is_over and not holder.is_dead()) else holder


def watch(
    destination: Destination,
    *,
    waiting: Say | None = None,
    patience_s: float | None = None,
    clock: Clock | None = None,
) -> Watched:
    """Return whether a run writes to ``destination``; a run on another machine is watched until its next heartbeat.

    Args:
        waiting: called with a line that says which run is watched.
        patience_s: how long to watch; ``STALE_S`` if None, 0 to believe the lock without watching.

    Raises:
        DestinationError: the store cannot be read, or the file is not a lock.
    """
    clock, patience_s = clock or CLOCK, STALE_S if patience_s is None else patience_s
    holder = read_holder(destination)
    if holder is None or holder.is_here() or not patience_s:
        return Watched(holder, holder is not None and not holder.is_dead())
    if waiting is not None:
        waiting(f"waiting up to {patience_s:.0f} s for a sign of life of process {holder.pid} on {holder.host}")
    started_s = clock.monotonic()
    for sight in _watch_sights(lock_url(destination), destination.url, patience_s, min(POLL_S, patience_s / 20), clock):
        holder_now = _current_holder(sight)
        if holder_now is None:
            return Watched(None, False)
        if holder_now != holder:
            return Watched(holder_now, True, clock.monotonic() - started_s)
    return Watched(holder, False, clock.monotonic() - started_s)
