"""``tonearm prune``: the rows of tracks that are gone, removed once a person has seen which and agreed."""

from __future__ import annotations

from collections.abc import Sequence

import typer

import tonearm
from tonearm.api.progress import ProgressLine
from tonearm.errors import UsageError
from tonearm.runs.status import read_status
from tonearm.storage.uris import shown
from tonearm.wording import counted


def prune(dest: str, forget: Sequence[str] = (), *, is_sure: bool = False) -> int:
    """Print the listings, ask, remove, and print what was removed; return the exit status.

    Raises:
        UsageError: nothing there, a source that was never listed there, or nobody to ask.
    """
    read_status(dest, is_watched=False)  # says so when there is nothing
    library = tonearm.Library(dest)
    for name, (num_tracks, is_complete) in library.listings().items():
        part = "" if is_complete else ", not to its end"
        print(f"{shown(name) or 'listed by tonearm 0.1.0'}: {counted(num_tracks, 'track')}{part}")
    with PruneLine("pruning") as line:
        pruned = library.prune(forget, yes=is_sure, ask=_ask, watcher=line)
    if pruned.num_rows:
        print(f"{counted(pruned.num_rows, 'row')} removed")
    else:
        print(f"nothing to remove: every row of {shown(dest)} is of a track that is listed")
    return 0


class PruneLine(ProgressLine):
    """Also prints what a forgotten source has listed, before the next question."""

    def forgotten(self, num_tracks: int) -> None:
        """Print how many tracks are no longer listed."""
        print(f"no longer listed: {counted(num_tracks, 'track')}")


def _ask(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        raise UsageError(f"{question} There is nobody to ask here; give --yes") from None
