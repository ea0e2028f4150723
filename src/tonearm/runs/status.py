"""Read the state of a destination from any machine: what is listed, what is done, and whether a run is in progress."""

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
        num_listed: tracks of the manifest; None while the first listing is still in progress.
        num_done: listed tracks with a row, failed ones included; ``errors_by_code`` counts the failed ones.
        missing_by_group: done tracks whose row lacks a group of columns that the destination has.
        failed_by_group: those of them that could not be decoded or scored when the group was to be added.
        num_superseded: rows that do not count, because a later row of their track does.
        num_unlisted: tracks with a row that no source lists any more.
        num_files: files of ``tracks/`` that count.
        state: ``complete`` (every listed track has a row, though it may lack groups), ``running``, ``stopped`` (by an
            error or a signal), ``killed`` or ``unfinished``.
        holder: the process that runs, or the one that was killed.
        silent_s: how long a holder on another machine was watched, by this machine's clock: until its next heartbeat
            if it runs, to the end if it was killed; None if this machine's list of processes decided.
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
    """Return the state of ``destination``.

    A run on another machine is watched until its next heartbeat, at most for ``lock.STALE_S``. The time in its lock
    does not help: the clocks of the two machines may differ.

    Args:
        waiting: called with a line that says which run is watched.
        is_watched: False to believe the lock of another machine without watching.

    Raises:
        DestinationError: ``tonearm tag`` has written nothing there, or it cannot be read.
    """
    place = Destination.of(destination)
    watched = run_lock.watch(place, waiting=waiting, patience_s=None if is_watched else 0.0)
    run_progress = progress.read(place)
    try:
        listed = manifest.read_keys(place.manifest)
    except SourceError as error:
        # There is a manifest, but a part of it is gone or damaged.
        if isinstance(error, Unreadable):
            raise
        if watched.holder is None and run_progress is None:
            raise DestinationError(
                f"{shown(destination)} holds no run (expected manifest/ and tracks/); give a destination of "
                "`tonearm tag SOURCE --out RUN`"
            ) from None
        listed = None
    stored = groups.read(place)
    # A later tonearm may have added kinds of heads that this one does not know.
    heads = list(groups.heads_of(stored))
    audit = resume.read_rows(place, stored).audit(listed if listed is not None else np.empty(0, np.int64), heads)
    num_done = audit.num_listed - audit.num_missing
    num_listed = None if listed is None else len(listed)
    return Status(
        destination,
        _run_state(watched, run_progress, audit, num_listed),
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
        run_progress,
        _last_run(destination),
    )


def _run_state(
    watched: run_lock.Watched, run_progress: Progress | None, audit: resume.Audit, num_listed: int | None
) -> str:
    if watched.holder is not None:
        return "running" if watched.is_alive else "killed"
    # Every track may have a row although a run that adds a group to them has stopped: then its progress is still there.
    is_stopped = run_progress is not None and bool(audit.missing_by_group)
    if num_listed is not None and audit.is_exact and not is_stopped:
        return "complete"
    return "stopped" if run_progress is not None else "unfinished"


def _last_run(destination: str) -> RunSummary | None:
    try:
        return read_run(destination)
    except DestinationError:
        return None
