"""What a person sees during a run: one live line in a terminal or a notebook, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tonearm.runs.counts import Counts
from tonearm.storage.uris import visible
from tonearm.watchers import Watcher
from tonearm.wording import clock, counted, fitting, hours

if TYPE_CHECKING:
    from tonearm.planning.summary import Outcome
    from tonearm.training.judge.evaluation import Evaluation

PLAIN_EVERY_S = 10.0
# Where there is no terminal to ask, as in a log and a notebook.
WIDTH = 80
BAR_WIDTH, LEAST_BAR_WIDTH = 24, 8


class Updatable(Protocol):
    """What IPython's ``display`` returns: an output below a cell whose content can be changed."""

    def update(self, content: dict[str, str], *, raw: bool) -> None: ...


def notebook_output() -> Updatable | None:
    """Return an empty output below the cell that runs, or None outside of a notebook."""
    # Who runs in a notebook has IPython loaded; it is no dependency of tonearm's.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    handle: Updatable = display({"text/plain": ""}, raw=True, display_id=True)
    return handle


class ProgressLine(Watcher):
    """Shows tracks and audio done, rate, failures and the time left; see ``watchers.Watcher``."""

    def __init__(self, doing: str = "tagging") -> None:
        self.doing = doing
        # A copy of the descriptor: while a run is quiet, stderr itself goes to a log file.
        self.stream = os.fdopen(os.dup(2), "w", buffering=1)
        self.console = Console(file=self.stream, markup=False, emoji=False)
        self.live: Live | None = None
        self.notebook = notebook_output()
        self.num_tracks = self.num_done = 0
        self.started = self.last_plain = time.monotonic()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.end_line()
        self.stream.close()

    def end_line(self) -> None:
        """Take the live line away, before something else is printed."""
        if self.live is not None:
            self.live.stop()
            self.live = None

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
        again = "; Ctrl-C stops, the same command resumes" if self.doing == "tagging" else ""
        self._plain(f"{self.doing} {counted(num_tracks, 'track')}{before}{again}")
        self.started = time.monotonic()
        if self.console.is_terminal:
            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()

    def progress(self, counts: Counts) -> None:
        """Show the stages' counts."""
        if self.notebook is not None:
            self.notebook.update({"text/plain": self._text(counts, WIDTH)}, raw=True)
        elif self.live is not None:
            position = self.num_done + self._num_finished(counts)
            text = self._text(counts, line_width(self.console))
            self.live.update(with_bar(text, position, self.num_tracks, self.console), refresh=True)
        elif time.monotonic() - self.last_plain >= PLAIN_EVERY_S:
            self._plain(self._text(counts, line_width(self.console)))

    def tagged(self, outcome: Outcome) -> None:
        """Take the line away; what a run did is for a subclass to print, as are all the ends below."""
        self.end_line()

    def judged(self, evaluation: Evaluation) -> None:
        """Take the line away, as ``tagged`` does."""
        self.end_line()

    def rows(self, num_done: int, num_rows: int) -> None:
        """Say how many rows of a file-by-file job are done."""
        if time.monotonic() - self.last_plain >= PLAIN_EVERY_S:
            self._plain(f"{self.doing}: {num_done:,} of {counted(num_rows, 'row')}")

    def _plain(self, line: str) -> None:
        if self.notebook is not None:
            # A notebook has no descriptor of its own for a cell's output, but Python's own stream.
            print(visible(line))
        else:
            print_prose(line, self.console)
        self.last_plain = time.monotonic()

    def _num_finished(self, counts: Counts) -> int:
        return min(counts.num_tracks, self.num_tracks - self.num_done)

    def _text(self, counts: Counts, width: int = WIDTH) -> str:
        num_finished = self._num_finished(counts)
        position = self.num_done + num_finished
        elapsed = max(1e-3, time.monotonic() - self.started)
        failures = f" · {counts.num_failed:,} failed" if counts.num_failed else ""
        # Before the first track is done nobody knows.
        left_s = (self.num_tracks - position) * elapsed / num_finished if num_finished else None
        remaining = f" · {clock(left_s)} left" if left_s is not None else ""
        done, audio, speed = f"{position:,}/{self.num_tracks:,}", hours(counts.audio_s), counts.audio_s / elapsed
        forms = (
            f"{position:,}/{counted(self.num_tracks, 'track')} · {audio} of audio · {speed:.0f}× real time"
            f"{failures}{remaining}",
            f"{done} · {audio} · {speed:.0f}×{failures}{remaining}",
            f"{done}{failures}{remaining}",
            f"{done}{remaining}",
        )
        return fitting(forms, width)


def line_width(console: Console) -> int:
    """Return how many characters a line may have: one less than the terminal, which would wrap to the next line."""
    return console.width - 1 if console.is_terminal else WIDTH


def print_prose(line: str, console: Console) -> None:
    """Print a sentence, on a terminal broken between words and not within one."""
    text = visible(line)
    if console.is_terminal:
        text = textwrap.fill(text, line_width(console), break_long_words=False, break_on_hyphens=False)
    print(text, file=console.file)


def with_bar(text: str, done: int, total: int, console: Console) -> RenderableType:
    """Return ``text`` behind a bar, as wide as there is room for; without one where there is hardly any."""
    room = min(BAR_WIDTH, line_width(console) - len(text) - 1)
    if room < LEAST_BAR_WIDTH:
        return Text(text)
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total, done, width=room), text)
    return row
