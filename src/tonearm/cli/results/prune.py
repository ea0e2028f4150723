"""``tonearm prune``: the rows of tracks that are gone, removed once a person has seen which and agreed."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import typer

import tonearm
from tonearm.api.progress import ProgressLine
from tonearm.cli.output import Output
from tonearm.errors import UsageError
from tonearm.storage.uris import shown
from tonearm.wording import counted


def prune(dest: str, forget: Sequence[str] = (), *, is_sure: bool = False, as_json: bool = False) -> int:
    """Print the listings, ask, remove, and print what was removed; return the exit status.

    Raises:
        UsageError: nothing there, a source that was never listed there, or nobody to ask.
    """
    library, output = tonearm.Library(dest), Output(as_json)
    listings = library.listings()
    for name, (num_tracks, is_complete) in listings.items():
        part = "" if is_complete else ", not to its end"
        output.say(f"{shown(name) or 'listed by tonearm 0.1.0'}: {counted(num_tracks, 'track')}{part}")
    with PruneLine(output) as line:
        pruned = library.prune(forget, yes=is_sure, ask=functools.partial(_ask, output), watcher=line)
    if pruned.num_rows:
        output.say(f"{counted(pruned.num_rows, 'row')} removed")
    else:
        output.say(f"nothing to remove: every row of {shown(dest)} is of a track that is listed")
    output.result(
        {
            "run": dest,
            "listings": [
                {"source": name, "num_tracks": num_tracks, "is_complete": is_complete}
                for name, (num_tracks, is_complete) in listings.items()
            ],
            "num_forgotten": pruned.num_forgotten,
            "num_rows_removed": pruned.num_rows,
        }
    )
    return 0


class PruneLine(ProgressLine):
    """Also prints what a forgotten source has listed, before the next question."""

    def __init__(self, output: Output) -> None:
        super().__init__("pruning")
        self.output = output

    def forgotten(self, num_tracks: int) -> None:
        """Print how many tracks are no longer listed."""
        self.output.say(f"no longer listed: {counted(num_tracks, 'track')}")


def _ask(output: Output, question: str) -> bool:
    try:
        return typer.confirm(question, err=output.as_json)
    except typer.Abort:
        raise UsageError(f"{question} There is nobody to ask here; give --yes") from None
