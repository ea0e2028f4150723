"""The progress of the current run, written by its driver next to the lock for ``tonearm status`` on any machine."""

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

# As often as the lock is written; an object store takes each as a request.
RECORD_S = 15.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """What one run has done so far.

    Attributes:
        doing: ``listing``, ``tagging``, or why it stopped.
        num_done_before: listed tracks that had their row when it started.
        num_tracks, num_failed, audio_s: what this run has scored itself.
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


def _progress_url(destination: Destination) -> str:
    return destination.checkpoint(PROGRESS)


def write(destination: Destination, progress: Progress) -> None:
    """Write the progress; errors of the store are ignored."""
    values = dataclasses.asdict(progress)
    # Losing a progress line is no reason to end a run of days.
    with contextlib.suppress(DestinationError):
        filesystems.write_text(_progress_url(destination), json.dumps(values, default=datetime.datetime.isoformat))


def read(destination: Destination) -> Progress | None:
    """Return the last progress that was written, or None if there is none.

    Raises:
        DestinationError: the store cannot be read.
    """
    with filesystems.reading(_progress_url(destination)):
        try:
            data = filesystems.read_bytes(_progress_url(destination))
        except FileNotFoundError:
            return None
    try:
        values: dict[str, Any] = json.loads(data)
        times = {name: datetime.datetime.fromisoformat(values[name]) for name in ("started", "at")}
        return Progress(**values | times)
    # Half written, or of another version: the same as none, since only people read it.
    except (ValueError, TypeError, KeyError):
        return None


def clear(destination: Destination) -> None:
    """Delete the progress of a run that has ended well; ``runs/<run>.json`` has its figures now."""
    with contextlib.suppress(DestinationError):
        filesystems.delete(_progress_url(destination))


class ProgressFile(Watcher):
    """A watcher that passes all calls on to another one, and writes the progress to the destination.

    Args:
        hold: the run's lock; once another run has taken it, that run's progress is not overwritten.
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
            # The file stays, so that ``tonearm status`` can tell why the run stopped.
            reason = error.message if isinstance(error, TonearmError) else "by a signal; run the same command to resume"
            self._record(doing=reason, is_due=True)

    def waiting(self, why: str) -> None:
        """Pass the call on."""
        self.watcher.waiting(why)

    def note(self, line: str) -> None:
        """Pass the call on."""
        self.watcher.note(line)

    def listing(self, num_tracks: int) -> None:
        """Pass the call on, and record how many tracks are listed so far."""
        self.watcher.listing(num_tracks)
        self._record(num_listed=num_tracks)

    def starting(self, num_tracks: int, num_done: int) -> None:
        """Pass the call on, and record what is left to do; the rate is counted from here."""
        self.watcher.starting(num_tracks, num_done)
        now = datetime.datetime.now(datetime.UTC)
        self._record(doing="tagging", started=now, num_listed=num_tracks, num_done_before=num_done, is_due=True)

    def progress(self, counts: Counts) -> None:
        """Pass the call on, and record what is done."""
        self.watcher.progress(counts)
        self._record(num_tracks=counts.num_tracks, num_failed=counts.num_failed, audio_s=counts.audio_s)

    def _record(self, *, is_due: bool = False, **changes: Any) -> None:
        self.now = dataclasses.replace(self.now, at=datetime.datetime.now(datetime.UTC), **changes)
        if self.hold.lost is None and (is_due or time.monotonic() - self.written_s >= RECORD_S):
            write(self.destination, self.now)
            self.written_s = time.monotonic()
