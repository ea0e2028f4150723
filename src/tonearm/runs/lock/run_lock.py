"""One run at a time writes to a destination: a lock beside its checkpoints, on disk and on object storage alike.

Each holding has a *term*, one more than the one before, which is claimed by creating an object only if it is absent.
A claim is made once the term before is seen to be over, so the claims are a chain in which at most one is alive:

- its holder said so at its end;
- it was a process of this machine (same boot, same PID namespace) that is gone;
- or it was silent: the holder writes the lock every ``HEARTBEAT_S``, and nothing changed while it was watched for
  ``STALE_S`` by the watcher's own clock. Two clocks are never compared.

A holder that was only suspended, or that its store did not let write, finds the other's claim when it looks: before
each heartbeat, before each execution of its run, and before it deletes the lock. It stops, and what it has still
written ranks below the rows of the higher term.
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
# A run that was told to stop a moment ago needs a few seconds to end.
ENDING_RUN_TIMEOUT_S = 5.0
# How long one that may have lost waits for a winner to show itself, and for a store to show what was written last.
SETTLE_S = 3.0
NUM_CLAIMS = 20
KEPT_TERMS = 100
CLOCK = Clock()


@contextlib.contextmanager
def held(destination: Destination, *, waiting: Say | None = None) -> Iterator[Hold]:
    """Hold the lock of a tagging run's ``destination``; see ``held_at``.

    Raises:
        DestinationError: also where nothing may be deleted.
    """
    _check_deletes(destination)
    with held_at(lock_url(destination), destination.url, waiting=waiting) as hold:
        yield hold


def _check_deletes(destination: Destination) -> None:
    """Raise DestinationError where nothing may be deleted: else Ray Data finds out after its first file of rows."""
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
    """Return where the lock of a tagging run's ``destination`` is."""
    return destination.checkpoint(LOCK)


@contextlib.contextmanager
def held_at(url: str, place: str, *, waiting: Say | None = None) -> Iterator[Hold]:
    """Hold the lock ``url`` of ``place`` while the block runs; see ``acquire`` and ``Hold``.

    Raises:
        DestinationError: as ``acquire``.
        Stopped: in place of what the block raises, where another has taken the lock meanwhile.
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
        # Where another has taken over, that is why files are gone or facts are others.
        with contextlib.suppress(DestinationError):
            hold.is_ours()
        raise
    finally:
        ended.set()
        thread.join()
        hold.release()


@dataclasses.dataclass(frozen=True)
class Sight:
    """What a lock's objects say at one moment.

    Attributes:
        term: the highest that is claimed; 0 for none.
        holder: who has it; None for nobody, or nobody who can be made out.
        is_over: whether that term is known to have ended.
        lock: what the lock itself says; None where there is none.
    """

    term: int
    holder: Holder | None
    is_over: bool
    lock: Holder | None


def look(url: str, place: str, machine: Machine | None = None) -> Sight:
    """Return what the lock's objects say now.

    Raises:
        DestinationError: the store does not say, or something else is there.
    """
    lock = lock_file.read(url, place)
    term = max([*lock_file.list_claims(url), lock.term if lock is not None else 0])
    claim = lock_file.read_claim(url, term) if term else None
    # A listing may lag behind what can be read, on Swift and on NFS. The claims are a chain.
    while (following := lock_file.read_claim(url, term + 1)) is not None:
        term, claim = term + 1, following
    claimed_by = claim.holder if claim is not None else None
    # Runs of 0.1.0 have no term: theirs counts beside any.
    holder = lock if lock is not None and lock.term in (0, term) else claimed_by
    is_over = holder is not None and (holder.released or holder.is_dead(machine))
    if claim is None and holder is None:
        is_over = True  # nothing, or a claim that was tidied away while one looked
    if claimed_by is not None and claimed_by.released and holder is not None and holder.token == claimed_by.token:
        is_over, holder = True, claimed_by  # it ended between its last two steps
    return Sight(term, holder, is_over, lock)


def acquire(
    url: str,
    place: str,
    *,
    waiting: Say | None = None,
    clock: Clock | None = None,
    machine: Machine | None = None,
) -> Hold:
    """Return the lock ``url`` of ``place``, once it is this one's; whoever calls this beats and releases it.

    Args:
        waiting: told whom a lock that may be stale belongs to before it is watched, and of a store that is not strict.
        clock: what to wait by; ``CLOCK`` unless given.
        machine: where this runs; this process's own unless given.

    Raises:
        DestinationError: another run is writing there, the store does not say, or something else is in its place.
    """
    clock, waiting = clock or CLOCK, waiting or (lambda line: None)
    own = Holder.of_this_process(machine)
    for _ in range(NUM_CLAIMS):
        own = dataclasses.replace(own, term=_await_over(url, place, own, waiting, clock, machine) + 1)
        hold = Hold(url, place, own, clock)
        try:
            if not _claim(url, place, own, waiting, clock):
                continue
            lock_file.write(url, own)
            if not hold.is_ours():
                lock_file.write(url, own)
        except Stopped:
            # It took so long from the claim to here that another judged this one to be gone.
            with contextlib.suppress(DestinationError):
                found = lock_file.read(url, place)
                if found is not None and found.token == own.token:
                    filesystems.delete(url)
            continue
        except BaseException:
            # Nobody should have to wait for one that never began.
            with contextlib.suppress(DestinationError):
                if _is_claimed_by(url, own):
                    lock_file.write(lock_file.claim_url(url, own.term), dataclasses.replace(own, released=True))
            raise
        _tidy(url, own.term)
        return hold
    raise _taken(place, look(url, place, machine).holder)


def _await_over(
    url: str,
    place: str,
    own: Holder,
    waiting: Say,
    clock: Clock,
    machine: Machine | None,
) -> int:
    """Return the highest term, once it is over; raise DestinationError when its holder lives."""
    seen = look(url, place, machine)
    if seen.is_over:
        return seen.term
    is_own = seen.holder is not None and seen.holder.token == own.token
    is_here = not is_own and seen.holder is not None and seen.holder.is_here(machine)
    patience_s = SETTLE_S if is_own else ENDING_RUN_TIMEOUT_S if is_here else STALE_S
    poll_s = min(POLL_S, patience_s / 20 if is_own or is_here else POLL_S)
    if not is_own and not is_here:
        who = seen.holder.who if seen.holder is not None else "another run"
        waiting(f"{who} wrote there last; waiting {patience_s:.0f} s to see whether it still does")
    now = seen
    for now in _looks(url, place, patience_s, poll_s, clock, machine):
        if now.is_over:
            return now.term
        # The beats of one that runs here are no reason to give up: it may be about to end.
        if now != seen and not is_here:
            raise _taken(place, now.holder)
    if is_here:
        raise _taken(place, now.holder)
    return now.term


def _looks(
    url: str, place: str, patience_s: float, poll_s: float, clock: Clock, machine: Machine | None = None
) -> Iterator[Sight]:
    """Yield what there is to see until ``patience_s`` have been watched."""
    watched_s, last = 0.0, clock.monotonic()
    while watched_s < patience_s:
        clock.sleep(poll_s)
        # Before the look, so that it covers the time. A machine that was suspended for an hour has not watched for an
        # hour: no gap counts for more than two polls.
        now = clock.monotonic()
        watched_s += min(now - last, 2 * poll_s)
        last = now
        yield look(url, place, machine)


def _claim(url: str, place: str, own: Holder, waiting: Say, clock: Clock) -> bool:
    """Return whether the term of ``own`` is its own, alone."""
    claim, data = lock_file.claim_url(url, own.term), lock_file.to_json(own).encode()
    try:
        filesystems.create_bytes(claim, data)
    except FileExistsError:
        if not _is_claimed_by(url, own):  # it may be: where an answer is lost, the client asks again
            return False
    try:
        filesystems.create_bytes(claim, data)
        is_strict = False
    except FileExistsError:
        is_strict = True
    if is_strict and filesystems.is_local(url):
        return True
    door = lock_file.claim_url(url, own.term, "closed")
    if lock_file.is_there(door):
        return False
    filesystems.write_text(door, own.token)
    if not is_strict:
        waiting(
            f"the store of {shown(place)} lets two runs create one object (it ignores If-None-Match); waiting "
            f"{SETTLE_S:.0f} s to see which of them has it"
        )
        clock.sleep(SETTLE_S)
    return _is_claimed_by(url, own)


def _is_claimed_by(url: str, own: Holder) -> bool:
    claim = lock_file.read_claim(url, own.term)
    return claim is not None and claim.holder is not None and claim.holder.token == own.token


def _tidy(url: str, term: int) -> None:
    """Delete the claims of long ago; a store that refuses keeps them."""
    with contextlib.suppress(DestinationError):
        for old in lock_file.list_claims(url):
            if old < term - KEPT_TERMS:
                filesystems.delete(lock_file.claim_url(url, old, "closed"))
                filesystems.delete(lock_file.claim_url(url, old))


def _taken(place: str, holder: Holder | None) -> DestinationError:
    who = holder.who if holder is not None else "another run"
    return DestinationError(
        f"{who} is writing to {shown(place)}; wait until it is done, stop it, or give another destination"
    )


@dataclasses.dataclass(frozen=True)
class Watched:
    """Whether somebody holds a lock, as far as one can see from here.

    Attributes:
        silent_s: for how long, by this machine's clock, a holder elsewhere was watched: until its beat, or in vain;
            None where it is known without.
    """

    holder: Holder | None
    is_alive: bool
    silent_s: float | None = None


def read_holder(destination: Destination) -> Holder | None:
    """Return who holds the lock of a tagging run's ``destination``, dead or alive; None when no one does.

    Raises:
        DestinationError: the store does not say, or something else is there.
    """
    return _holder(look(lock_url(destination), destination.url))


def _holder(seen: Sight) -> Holder | None:
    """Return who has the lock, or had it when it was killed; a claim alone, without a lock, is no holding."""
    holder = seen.holder if seen.lock is not None else None
    return None if holder is None or holder.released or (seen.is_over and not holder.is_dead()) else holder


def watch(
    destination: Destination,
    *,
    waiting: Say | None = None,
    patience_s: float | None = None,
    clock: Clock | None = None,
) -> Watched:
    """Return whether a run writes to ``destination``; one elsewhere is watched until it beats.

    Args:
        waiting: told whom is waited for.
        patience_s: how long to watch, ``STALE_S`` unless given; 0 to take its word.

    Raises:
        DestinationError: the store does not say, or something else is there.
    """
    clock, patience_s = clock or CLOCK, STALE_S if patience_s is None else patience_s
    holder = read_holder(destination)
    if holder is None or holder.is_here() or not patience_s:
        return Watched(holder, holder is not None and not holder.is_dead())
    if waiting is not None:
        waiting(f"waiting up to {patience_s:.0f} s for a sign of life of process {holder.pid} on {holder.host}")
    started = clock.monotonic()
    for sight in _looks(lock_url(destination), destination.url, patience_s, min(POLL_S, patience_s / 20), clock):
        seen = _holder(sight)
        if seen is None:
            return Watched(None, False)
        if seen != holder:
            return Watched(seen, True, clock.monotonic() - started)
    return Watched(holder, False, clock.monotonic() - started)
