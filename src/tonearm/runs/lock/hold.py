"""A lock that is held: what its holder does before each heartbeat, each execution and at the end; see ``lock``."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable

from tonearm.errors import DestinationError, Stopped
from tonearm.runs.lock import lock_file
from tonearm.runs.lock.lock_file import Holder
from tonearm.storage import filesystems
from tonearm.storage.uris import shown

# Before an execution: a store that says nothing is asked so often, with a wait that doubles from a second.
NUM_CHECKS = 5


class Clock:
    """The time that the lock waits by; a simulation puts its own in place of ``lock.CLOCK``."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        time.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Return after ``seconds``, or as soon as ``event`` is set: then True."""
        return event.wait(seconds)


class Hold:
    """The lock in one's hands. Nothing here decides by how much time has passed: one looks at what is written.

    Attributes:
        lost: why the lock is another's, once that is known.
    """

    def __init__(self, url: str, place: str, own: Holder, clock: Clock) -> None:
        self.url = url
        self.place = place
        self.own = own
        self.clock = clock
        self.lost: Stopped | None = None
        self._mutex = threading.RLock()
        self._callbacks: list[Callable[[Stopped], None]] = []

    @property
    def term(self) -> int:
        return self.own.term

    @property
    def token(self) -> str:
        return self.own.token

    def check(self) -> None:
        """Return if the lock is still this one's.

        Raises:
            Stopped: another has taken it, or the store does not say for ``NUM_CHECKS`` attempts.
        """
        failure = None
        for attempt in range(NUM_CHECKS):
            if attempt:
                self.clock.sleep(2.0 ** (attempt - 1))
            try:
                with self._mutex:
                    if not self.is_ours():
                        lock_file.write(self.url, self.own)
                return
            except DestinationError as error:
                failure = error
        message = failure.message if failure is not None else ""
        raise Stopped(
            f"it cannot be known whether another run has taken over: {message}; what is written stays. "
            "Run the same command to go on"
        )

    def is_ours(self) -> bool:
        """Return whether the lock bears this token; False where it is to be written again.

        Raises:
            Stopped: another has it.
            DestinationError: the store does not say.
        """
        if self.lost is not None:
            raise self.lost
        found = lock_file.read(self.url, self.place)
        if found is not None and found.token != self.token and found.term >= self.term:
            raise self._lose(found)
        # The next in the chain: whoever has claimed it has judged this one to be over.
        rival = lock_file.read_claim(self.url, self.term + 1)
        if rival is not None:
            raise self._lose(rival.holder)
        if found is not None and found.token == self.token:
            return True
        # Somebody deleted the lock, or one who claimed a lower term woke up late and wrote it. Or all is gone, and the
        # chain has begun again: then this term is not this one's any more.
        claim = lock_file.read_claim(self.url, self.term)
        if claim is None or claim.holder is None or claim.holder.token != self.token:
            raise self._lose(claim.holder if claim is not None else found)
        higher = [term for term in lock_file.list_claims(self.url) if term > self.term]
        if higher:
            last = lock_file.read_claim(self.url, higher[-1])
            raise self._lose(last.holder if last is not None else None)
        return False

    def beat(self) -> None:
        """Write the lock again, if it is still this one's; a store that fails for a while does not end the run."""
        with contextlib.suppress(DestinationError, Stopped), self._mutex:
            self.is_ours()
            self.own = dataclasses.replace(self.own, beat=self.own.beat + 1, at=lock_file.now())
            lock_file.write(self.url, self.own)

    def on_lost(self, callback: Callable[[Stopped], None]) -> contextlib.AbstractContextManager[object]:
        """Have ``callback`` called, once and on any thread, when the lock is another's.

        Returns:
            what, used in a ``with``, forgets the callback at the block's end; no call is under way after that.
        """
        with self._mutex:
            if self.lost is not None:
                callback(self.lost)
            else:
                self._callbacks.append(callback)
        stack = contextlib.ExitStack()
        stack.callback(self._forget, callback)
        return stack

    def release(self) -> None:
        """Delete the lock, if it is still this one's; where the store refuses that, write that it is released."""
        lock_file.LET_GO.add(self.token)
        with self._mutex, contextlib.suppress(DestinationError, Stopped):
            self._callbacks.clear()
            is_ours = self.is_ours()
            released = dataclasses.replace(self.own, released=True, at=lock_file.now())
            with contextlib.suppress(DestinationError):
                lock_file.write(lock_file.claim_url(self.url, self.term), released)
            if is_ours:
                try:
                    filesystems.delete(self.url)
                except DestinationError:
                    lock_file.write(self.url, released)

    def _forget(self, callback: Callable[[Stopped], None]) -> None:
        with self._mutex, contextlib.suppress(ValueError):
            self._callbacks.remove(callback)

    def _lose(self, to: Holder | None) -> Stopped:
        who = to.who if to is not None and to.token != self.token else "another run"
        self.lost = Stopped(
            f"{who} has taken over {shown(self.place)} because this one was silent for too long, and this one stops; "
            "what is written stays. Run the same command again when the other is done"
        )
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self.lost)
        return self.lost
