"""``tonearm prune``: the rows of tracks that are gone, removed once a person has seen which and said so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import typer

from tonearm.cli.terminal import ProgressLine
from tonearm.errors import UsageError
from tonearm.runs import compaction
from tonearm.runs.destination import Destination
from tonearm.runs.lock import run_lock
from tonearm.runs.manifest import manifest
from tonearm.runs.rows import track_rows
from tonearm.runs.status import read_status
from tonearm.storage.uris import shown
from tonearm.wording import counted


def prune(dest: str, forget: Sequence[str] = (), *, is_sure: bool = False) -> int:
    """Forget the listings of some sources, and remove the rows of what no source lists; ask before.

    Raises:
        UsageError: nothing there, a source that was never listed there, or nobody to ask.
    """
    destination = Destination.of(dest)
    read_status(dest, is_watched=False)  # says so when there is nothing
    for name, is_complete, num_tracks, _ in manifest.listings(destination.manifest):
        part = "" if is_complete else ", not to its end"
        print(f"{shown(name) or 'listed by tonearm 0.1.0'}: {counted(num_tracks, 'track')}{part}")
    for source in forget:
        _ask(f"forget what {shown(source)} has listed?", is_sure=is_sure)
    with ProgressLine("pruning") as line, run_lock.held(destination, waiting=line.waiting) as hold:
        if forget:
            gone = manifest.prune(destination.manifest, forget, check=hold.check)
            print(f"no longer listed: {counted(gone, 'track')}")
        listed = track_rows.read_listed(dest)
        compaction.recover(destination)
        found = compaction.unlisted(destination, listed) if listed is not None else {}
        num_rows = sum(int(np.count_nonzero(~rows)) for rows in found.values())
        if not num_rows:
            print(f"nothing to remove: every row of {shown(dest)} is of a track that is listed")
            return 0
        _ask(f"remove {counted(num_rows, 'row')} that nothing shows?", is_sure=is_sure)
        compaction.mend(destination, found, check=hold.check)
    print(f"{counted(num_rows, 'row')} removed")
    return 0


def _ask(question: str, *, is_sure: bool) -> None:
    if is_sure:
        return
    try:
        is_yes = typer.confirm(question)
    except typer.Abort:
        raise UsageError(f"{question} There is nobody to ask here; give --yes") from None
    if not is_yes:
        raise UsageError("nothing was removed")
