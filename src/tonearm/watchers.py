"""Who is told how the work of a verb goes: a terminal's line, a notebook's output, a file, or one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tonearm.api.tagging import FinishedRun
    from tonearm.planning.summary import Outcome
    from tonearm.runs.counts import Counts
    from tonearm.training.judge.evaluation import Evaluation

# For what has one kind of line to tell, and no figures.
Say = Callable[[str], None]


class Watcher:
    """Told what happens, by whichever verb works; this one tells nobody, and a class of one's own overrides some of it.

    Methods are called on any thread, one at a time, and hold the work up until they return. A verb calls only those
    that name it.
    """

    def waiting(self, why: str) -> None:
        """Told what is waited for before anything starts, or what takes a while; by every verb."""

    def note(self, line: str) -> None:
        """Told what a person should know; by ``plan`` and ``train``."""

    def listing(self, num_tracks: int) -> None:
        """Told how many tracks the sources have given so far; by ``tag`` and ``plan``."""

    def starting(self, num_tracks: int, num_done: int) -> None:
        """Told what is ahead: tracks in all, and those that were done before; by ``tag`` and ``evaluate``."""

    def progress(self, counts: Counts) -> None:
        """Told the stages' counts, twice a second; by ``tag`` and ``evaluate``."""

    def tagged(self, outcome: Outcome) -> None:
        """Told once every track has its row, before the library is counted, which takes a while where it is large."""

    def reported(self, run: FinishedRun) -> None:
        """Told once the summary and the report are written; by ``tag``."""

    def judged(self, evaluation: Evaluation) -> None:
        """Told the figures, before anything is written; by ``evaluate``."""

    def written(self, names: Sequence[str]) -> None:
        """Told the names of the files in ``out``; by ``evaluate``."""

    def decoding(self, num_done: int, num_clips: int) -> None:
        """Told how many of the clips are decoded; by ``train``."""

    def event(self, event: dict[str, Any]) -> None:
        """Told what the training loop says: its ``kind`` is ``start``, ``step`` or ``evaluation``; by ``train``."""

    def rows(self, num_done: int, num_rows: int) -> None:
        """Told how many rows are done; by ``compact`` and ``prune``."""

    def forgotten(self, num_tracks: int) -> None:
        """Told how many tracks are no longer listed; by ``prune``."""
