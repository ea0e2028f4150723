"""How far the run under way is, as its driver says it beside the lock: what ``tonearm status`` reads from elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import time
from types import TracebackType
from typing import Any

from tonearm.errors import DestinationError, TonearmError
from tonearm.runs.counts import Counts
from tonearm.runs.destination import Destination
from tonearm.runs.lock.hold import Hold
from tonearm.runs.places import PROGRESS
from tonearm.storage import filesystems
from tonearm.watchers import Watcher

RECORD_S = 15.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """What one run has done so far.

    Attributes:
        doing: ``listing``, ``tagging``, or why it stopped.
        num_done_before: listed tracks that had their row when it started.
        num_tracks, num_failed, audio_s: what it has scored itself.
        started, at: UTC, of the run and of these figures.
    """

    run_id: str
    doing: str
    started: datetime.datetime
    at: datetime.datetime
    num_listed: int = 0
    num_done_before: int = 0
    num_tracks: int = 0
    num_failed: int = 0
    audio_s: float = 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the last track, at the rate so far."""
        if not self.num_tracks:
            return None
        elapsed = (self.at - self.started).total_seconds()
        return max(0, self.num_listed - self.num_done_before - self.num_tracks) * elapsed / self.num_tracks


def _url(destination: Destination) -> str:
    return destination.checkpoint(PROGRESS)


def write(destination: Destination, progress: Progress) -> None:
    """Write the figures; a store that fails for a while must not end the run for their sake."""
    values = dataclasses.asdict(progress)
    with contextlib.suppress(DestinationError):
        filesystems.write_text(_url(destination), json.dumps(values, default=datetime.datetime.isoformat))


def read(destination: Destination) -> Progress | None:
    """Return the last figures, or None where no run has left any.

    Raises:
        DestinationError: the store does not say.
    """
    with filesystems.reading(_url(destination)):
        try:
            data = filesystems.read_bytes(_url(destination))
        except FileNotFoundError:
            return None
    try:
        values: dict[str, Any] = json.loads(data)
        times = {name: datetime.datetime.fromisoformat(values[name]) for name in ("started", "at")}
        return Progress(**values | times)
    except (ValueError, TypeError, KeyError):
        return None


def clear(destination: Destination) -> None:
    """Forget the figures of a run that has ended well; ``runs/<run>.json`` has them now."""
    with contextlib.suppress(DestinationError):
        filesystems.delete(_url(destination))


class ProgressFile(Watcher):
    """Passes on what a watcher is told, and writes it to the destination for ``tonearm status``.

    Args:
        hold: the run's lock; what is there of another's progress once that has taken over is left alone.
    """

    def __init__(
        self, destination: Destination, run_id: str, started: datetime.datetime, watcher: Watcher, hold: Hold
    ) -> None:
        self.hold = hold
        self.destination = destination
        self.watcher = watcher
        self.now = Progress(run_id, "listing", started, started)
        self.written_s = -RECORD_S

    def __enter__(self) -> ProgressFile:
        self._record()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None and self.hold.lost is None:
            clear(self.destination)
        else:
            why = error.message if isinstance(error, TonearmError) else "by a signal; run the same command to go on"
            self._record(doing=why, is_due=True)

    def waiting(self, why: str) -> None:
        """Pass it on."""
        self.watcher.waiting(why)

    def note(self, line: str) -> None:
        """Pass it on."""
        self.watcher.note(line)

    def listing(self, num_tracks: int) -> None:
        """Pass it on, and note how many tracks there are so far."""
        self.watcher.listing(num_tracks)
        self._record(num_listed=num_tracks)

    def starting(self, num_tracks: int, num_done: int) -> None:
        """Pass it on, and note what is ahead; the rate counts from here."""
        self.watcher.starting(num_tracks, num_done)
        now = datetime.datetime.now(datetime.UTC)
        self._record(doing="tagging", started=now, num_listed=num_tracks, num_done_before=num_done, is_due=True)

    def progress(self, counts: Counts) -> None:
        """Pass it on, and note what is done."""
        self.watcher.progress(counts)
        self._record(num_tracks=counts.num_tracks, num_failed=counts.num_failed, audio_s=counts.audio_s)

    def _record(self, *, is_due: bool = False, **changes: Any) -> None:
        self.now = dataclasses.replace(self.now, at=datetime.datetime.now(datetime.UTC), **changes)
        if self.hold.lost is None and (is_due or time.monotonic() - self.written_s >= RECORD_S):
            write(self.destination, self.now)
            self.written_s = time.monotonic()
