"""How far the run under way is, as its driver says it beside the lock: what ``tonearm status`` reads from elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from typing import Any

from tonearm.errors import DestinationError
from tonearm.runs.destination import Destination
from tonearm.storage import filesystems


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
    return destination.join("_checkpoint", "progress.json")


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
