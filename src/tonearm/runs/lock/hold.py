"""A lock that is held: what its holder does before each heartbeat and execution, and at the end; see ``lock``."""

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

# Attempts to read the lock before an execution if the store fails, with waits of 1, 2, 4 and 8 s between them.
NUM_CHECKS = 5


class Clock:
    """The clock that the lock uses; a simulation replaces ``lock.CLOCK`` by its own."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        time.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for ``seconds`` or until ``event`` is set; return whether it is set."""
        return event.wait(seconds)


class Hold:
    """A lock that this process has acquired. It is never lost by time alone, only if another run's claim is found.

    Attributes:
        holder: this holding as it is written to the lock.
        lost: why another run has the lock, once that is known.
    """

    def __init__(self, url: str, place: str, holder: Holder, clock: Clock) -> None:
        self.url = url
        self.place = place
        self.holder = holder
        self.clock = clock
        self.lost: Stopped | None = None
        self._mutex = threading.RLock()
        self._callbacks: list[Callable[[Stopped], None]] = []

    @property
    def term(self) -> int:
        return self.holder.term

    @property
    def token(self) -> str:
        return self.holder.token

    def check(self) -> None:
        """Return if this run still has the lock.

        Raises:
            Stopped: another run has taken it, or the store failed in all ``NUM_CHECKS`` attempts.
        """
        last_error = None
        for attempt in range(NUM_CHECKS):
            if attempt:
                self.clock.sleep(2.0 ** (attempt - 1))
            try:
                with self._mutex:
                    if not self.is_ours():
                        lock_file.write(self.url, self.holder)
                return
            except DestinationError as error:
                last_error = error
        message = last_error.message if last_error is not None else ""
        raise Stopped(
            f"it cannot be known whether another run has taken over: {message}; what is written stays. "
            "Run the same command to resume"
        )

    def is_ours(self) -> bool:
        """Return whether the lock has this holding's token; False if it is this run's but has to be written again.

        Raises:
            Stopped: another run has it.
            DestinationError: the store cannot be read.
        """
        if self.lost is not None:
            raise self.lost
        written = lock_file.read(self.url, self.place)
        if written is not None and written.token != self.token and written.term >= self.term:
            raise self._lose(written)
        # Claims form a chain: a run claims the next term only after it has found this one to be over.
        next_claim = lock_file.read_claim(self.url, self.term + 1)
        if next_claim is not None:
            raise self._lose(next_claim.holder)
        if written is not None and written.token == self.token:
            return True
        # The lock is missing, or a run of a lower term was suspended and wrote it late. Then the claim decides. If that
        # is gone too, somebody has deleted everything and a new chain may have begun, so the lock counts as lost.
        claim = lock_file.read_claim(self.url, self.term)
        if claim is None or claim.holder is None or claim.holder.token != self.token:
            raise self._lose(claim.holder if claim is not None else written)
        # The claim of the next term may have been tidied away, or not be visible yet.
        higher = [term for term in lock_file.list_claims(self.url) if term > self.term]
        if higher:
            last = lock_file.read_claim(self.url, higher[-1])
            raise self._lose(last.holder if last is not None else None)
        return False

    def beat(self) -> None:
        """Write the lock again if this run still has it. Errors of the store are ignored: the next beat tries again."""
        with contextlib.suppress(DestinationError, Stopped), self._mutex:
            self.is_ours()
            self.holder = dataclasses.replace(self.holder, beat=self.holder.beat + 1, at=lock_file.now())
            lock_file.write(self.url, self.holder)

    def on_lost(self, callback: Callable[[Stopped], None]) -> contextlib.AbstractContextManager[object]:
        """Call ``callback`` once, on any thread, when the lock is found to be lost; at once if it already is.

        Returns:
            a context manager that removes the callback at the end of the block; no call is in progress after that.
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
        """Delete the lock if this run still has it; if the store refuses that, write that it is released."""
        lock_file.LET_GO.add(self.token)
        with self._mutex, contextlib.suppress(DestinationError, Stopped):
            self._callbacks.clear()
            is_ours = self.is_ours()
            # The claim first: if this process is killed between the two, the next run need not wait for it.
            released = dataclasses.replace(self.holder, released=True, at=lock_file.now())
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

    def _lose(self, successor: Holder | None) -> Stopped:
        successor_text = successor.who if successor is not None and successor.token != self.token else "another run"
        self.lost = Stopped(
            f"{successor_text} has taken over {shown(self.place)} because this one was silent for too long, and this "
            "one stops; what is written stays. Run the same command again when the other is done"
        )
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self.lost)
        return self.lost
