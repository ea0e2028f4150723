"""How far a destination is, asked from any machine: what is listed, what has its row, and whether a run is at work."""

from __future__ import annotations

import dataclasses

import numpy as np

from tonearm.errors import DestinationError, SourceError
from tonearm.runs import groups, progress, resume
from tonearm.runs.destination import Destination
from tonearm.runs.lock import run_lock
from tonearm.runs.manifest import manifest
from tonearm.runs.manifest.manifest_parts import Unreadable
from tonearm.runs.progress import Progress
from tonearm.runs.run_summary import RunSummary, read_run
from tonearm.storage.uris import shown
from tonearm.watchers import Say


@dataclasses.dataclass(frozen=True)
class Status:
    """The state of one destination.

    Attributes:
        num_listed: tracks of the manifest; None while the first one is still being listed.
        num_done: listed tracks with a row, failed ones included; ``errors_by_code`` counts those.
        missing_by_group: done tracks whose row lacks a group of columns that the destination has.
        failed_by_group: those of them that could not be decoded or scored when it was to be added.
        num_superseded: rows that do not count, since a later one of their track does.
        num_unlisted: tracks with a row that no source lists any more.
        num_files: files of ``tracks/`` that count.
        state: ``complete`` (every listed track has its row, if maybe not each group), ``running``, ``stopped`` (by
            itself or by a signal), ``killed`` or ``unfinished``.
        holder: who runs, or ran when it was killed.
        silent_s: how long a holder on another machine was watched, by this one's clock: until its next sign of life
            where it runs, in vain where it was killed; None where the list of processes here says it.
        last: the last run that ended.
    """

    destination: str
    state: str
    num_listed: int | None
    num_done: int
    errors_by_code: dict[str, int]
    missing_by_group: dict[str, int]
    failed_by_group: dict[str, int]
    num_superseded: int
    num_unlisted: int
    num_files: int
    holder: run_lock.Holder | None
    silent_s: float | None
    progress: Progress | None
    last: RunSummary | None


def read_status(destination: str, *, waiting: Say | None = None, is_watched: bool = True) -> Status:
    """Return how far ``destination`` is.

    A run that was started on another machine is watched until it gives a sign of life, or for ``lock.STALE_S``: the
    clocks of the two say nothing about each other.

    Args:
        waiting: told whom is waited for.
        is_watched: False to take the word of a lock from elsewhere, at once.

    Raises:
        DestinationError: nothing there that ``tonearm tag`` has written, or it cannot be read.
    """
    place = Destination.of(destination)
    watched = run_lock.watch(place, waiting=waiting, patience_s=None if is_watched else 0.0)
    found = progress.read(place)
    try:
        listed = manifest.read_keys(place.manifest)
    except SourceError as error:
        if isinstance(error, Unreadable):  # there is a library, and something is wrong with it
            raise
        if watched.holder is None and found is None:
            raise DestinationError(
                f"{shown(destination)} holds no run (expected manifest/ and tracks/); give a destination of "
                "`tonearm tag SOURCE --out RUN`"
            ) from None
        listed = None
    stored = groups.read(place)
    # A later tonearm may have added heads that this one knows nothing of.
    heads = list(groups.heads_of(stored))
    audit = resume.find(place, stored).audit(listed if listed is not None else np.empty(0, np.int64), heads)
    num_done = audit.num_listed - audit.num_missing
    num_listed = None if listed is None else len(listed)
    return Status(
        destination,
        _state(watched, found, audit, num_listed),
        num_listed,
        num_done,
        audit.errors_by_code,
        audit.missing_by_group,
        audit.failed_by_group,
        audit.num_outranked,
        audit.num_unlisted if listed is not None else 0,
        audit.num_files,
        watched.holder,
        watched.silent_s,
        found,
        _last(destination),
    )


def _state(watched: run_lock.Watched, found: Progress | None, audit: resume.Audit, num_listed: int | None) -> str:
    if watched.holder is not None:
        return "running" if watched.is_alive else "killed"
    # A run that was to add a group to every row has left its figures behind where it did not come to its end.
    is_stopped = found is not None and bool(audit.missing_by_group)
    if num_listed is not None and audit.is_exact and not is_stopped:
        return "complete"
    return "stopped" if found is not None else "unfinished"


def _last(destination: str) -> RunSummary | None:
    try:
        return read_run(destination)
    except DestinationError:
        return None
