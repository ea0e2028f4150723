"""What a person sees while a run goes on: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from tonearm.runs.counts import Counts
from tonearm.storage.uris import visible
from tonearm.wording import clock as clock
from tonearm.wording import counted

PLAIN_EVERY_S = 10.0


def hours(seconds: float) -> str:
    """Return ``seconds`` of audio as a person says it: ``45 s``, ``12.5 min``, ``3.2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


class ProgressLine:
    """Shows tracks and audio done, rate, failures and the time left; a ``runs.progress.Watcher``."""

    def __init__(self, doing: str = "tagging") -> None:
        self.doing = doing
        # A copy of the descriptor: while a run is quiet, stderr itself goes to a log file.
        self.stream = os.fdopen(os.dup(2), "w", buffering=1)
        self.console = Console(file=self.stream, markup=False, emoji=False)
        self.live: Live | None = None
        self.num_tracks = self.num_done = 0
        self.started = self.last_plain = time.monotonic()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None
        self.stream.close()

    def waiting(self, why: str) -> None:
        """Say what is waited for before anything starts."""
        self._plain(why)

    def listing(self, num_tracks: int) -> None:
        """Say how many tracks the sources have given so far."""
        if time.monotonic() - self.last_plain >= PLAIN_EVERY_S:
            self._plain(f"listing: {counted(num_tracks, 'track')} so far")

    def starting(self, num_tracks: int, num_done: int) -> None:
        """Say what is ahead."""
        self.num_tracks, self.num_done = num_tracks, num_done
        before = f", {num_done:,} of them done before" if num_done else ""
        again = "; Ctrl-C stops, the same command goes on" if self.doing == "tagging" else ""
        self._plain(f"{self.doing} {counted(num_tracks, 'track')}{before}{again}")
        self.started = time.monotonic()
        if self.console.is_terminal:
            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()

    def progress(self, counts: Counts) -> None:
        """Show the stages' counts."""
        if self.live is not None:
            self.live.update(self._row(counts), refresh=True)
        elif time.monotonic() - self.last_plain >= PLAIN_EVERY_S:
            self._plain(self._text(counts))

    def rows(self, num_done: int, num_rows: int) -> None:
        """Say how many rows of a file-by-file job are done."""
        if time.monotonic() - self.last_plain >= PLAIN_EVERY_S:
            self._plain(f"{self.doing}: {num_done:,} of {counted(num_rows, 'row')}")

    def _plain(self, line: str) -> None:
        print(visible(line), file=self.stream)
        self.last_plain = time.monotonic()

    def _position(self, counts: Counts) -> tuple[int, float]:
        finished = min(counts.num_tracks, self.num_tracks - self.num_done)
        elapsed = max(1e-3, time.monotonic() - self.started)
        left = (self.num_tracks - self.num_done - finished) * elapsed / finished if finished else float("nan")
        return self.num_done + finished, left

    def _text(self, counts: Counts) -> str:
        position, left = self._position(counts)
        elapsed = max(1e-3, time.monotonic() - self.started)
        failures = f" · {counts.num_failed:,} failed" if counts.num_failed else ""
        remaining = f" · {clock(left)} left" if left == left else ""
        return (
            f"{position:,}/{counted(self.num_tracks, 'track')} · {hours(counts.audio_s)} of audio · "
            f"{counts.audio_s / elapsed:.0f}× real time{failures}{remaining}"
        )

    def _row(self, counts: Counts) -> Table:
        position, _ = self._position(counts)
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(self.num_tracks, position, width=24), self._text(counts))
        return row
