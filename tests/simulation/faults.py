"""Faults of before, put back into the library's code: what a simulation of destinations has to find."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from tests.simulation.runs import Workers
from tonearm.distributed.tagging import driver
from tonearm.errors import DestinationError
from tonearm.planning import adoption
from tonearm.runs import compaction, groups, resume
from tonearm.runs.destination import Destination
from tonearm.runs.lock import hold, lock_file, run_lock
from tonearm.runs.manifest import manifest, manifest_marker
from tonearm.runs.rows import finished_rows, ranking, track_files, track_rows
from tonearm.storage import filesystems
from tonearm.tagging import TagPlan

Change = Callable[[], contextlib.AbstractContextManager[Any]]


def _put(place: Any, name: str, value: Any) -> Change:
    return lambda: mock.patch.object(place, name, value)


def _all(*changes: Change) -> Change:
    @contextlib.contextmanager
    def put() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for change in changes:
                stack.enter_context(change())
            yield

    return put


# A suspended holder goes on


def _never_looks(self: hold.Hold) -> bool:
    return True


# a pid is believed across machines


def _same_host(self: lock_file.Holder, machine: lock_file.Machine | None = None) -> bool:
    machine = machine or lock_file.Machine.this()
    return bool(self.boot_id) and machine.host == self.host


# a lock that cannot be read is free


def _free_if_unreadable(url: str) -> bytes | None:
    try:
        return filesystems.read_bytes(url, max_bytes=lock_file.MAX_BYTES + 1)
    except OSError:
        return None


# two starts within one write's latency


def _claims_by_writing(url: str, place: str, own: lock_file.Holder, *_: Any) -> bool:
    filesystems.write_text(lock_file.claim_url(url, own.term), lock_file.to_json(own))
    return True


# judged before the lock


def _judges_first() -> contextlib.AbstractContextManager[Any]:
    real, known = run_lock.held, dict[Any, Any]()

    def held(destination: Destination, **keywords: Any) -> Any:
        known["found"] = groups.read(destination)
        found = known["found"]

        @contextlib.contextmanager
        def holding() -> Iterator[Any]:
            with real(destination, **keywords) as own:
                own.judged = found  # type: ignore[attr-defined]
                yield own

        return holding()

    real_adopt = adoption.adopt

    def adopt(destination: Destination, *rest: Any) -> Any:
        own = holds[-1]
        with mock.patch.object(groups, "read", lambda place, *_: own.judged):
            return real_adopt(destination, *rest)

    holds: list[Any] = []
    real_recover = compaction.recover

    def recover(destination: Destination, **keywords: Any) -> None:
        real_recover(destination, **keywords)
        check = keywords.get("check")
        if check is not None:
            holds.append(check.__self__)

    return _all(
        _put(driver.run_lock, "held", held), _put(adoption, "adopt", adopt), _put(compaction, "recover", recover)
    )()


# two rows for one key


def _every_row_counts(self: ranking.Ranking, tables: Any) -> list[Any]:
    return [np.ones(len(each.keys), bool) for each in tables]


def _no_terms(self: ranking.Ranking, term: int, run: str) -> int:
    return self._numbers.setdefault((0, run), len(self._numbers))


# readers that do not look again


def _reads_once(destination: str, columns: Any, reduce: Any, known: Any = None) -> Any:
    filesystem = filesystems.arrow_filesystem(f"{destination}/tracks").filesystem
    found = {}
    for file in track_files.finished(destination):
        try:
            found[file] = reduce(finished_rows._read_table(file, columns, filesystem))
        except OSError as error:
            raise DestinationError(f"{file.path} cannot be read ({error}); delete that file") from None
    return found


# clocks of two machines


def _compares_clocks(destination: Destination, **_: Any) -> run_lock.Watched:
    holder = run_lock.read_holder(destination)
    if holder is None:
        return run_lock.Watched(None, False)
    times = (holder.at or holder.since, lock_file.now())
    there, here = (datetime.datetime.strptime(time, lock_file.SINCE) for time in times)
    return run_lock.Watched(holder, abs((here - there).total_seconds()) < run_lock.STALE_S)


# precision as asked


def _facts_as_asked() -> contextlib.AbstractContextManager[Any]:
    real = TagPlan._head_facts

    def facts(self: TagPlan, head: str) -> dict[str, Any]:
        return {**real(self, head), "precision": self.models.precision}

    return mock.patch.object(TagPlan, "_head_facts", facts)


def _adopts_nothing(plan: Any, group: Any) -> Any:
    return plan


# What the simulation itself has found


def _recovers_without_a_look() -> contextlib.AbstractContextManager[Any]:
    real = compaction.recover
    return mock.patch.object(compaction, "recover", lambda destination, **_: real(destination))


def _ray_removes() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(Workers, "execution_cleans", True)


def _removes_without_a_look() -> contextlib.AbstractContextManager[Any]:
    real = manifest._delete_unnamed
    return mock.patch.object(
        manifest, "_delete_unnamed", lambda place, left_over, check: real(place, left_over, lambda: None)
    )


def _completes_without_a_look() -> contextlib.AbstractContextManager[Any]:
    real = compaction._compact_step

    def step(*args: Any) -> Any:
        destination, inputs, wanted, target_bytes, progress, check, *counting = args
        looks: list[int] = []

        def once() -> None:
            if not looks:
                looks.append(1)
                check()

        return real(destination, inputs, wanted, target_bytes, progress, once, *counting)

    return mock.patch.object(compaction, "_compact_step", step)


# Of one writer, one row.
WRITERS: dict[str, Change] = {
    "a suspended holder goes on": _put(hold.Hold, "is_ours", _never_looks),
    "a pid is believed in another container": _put(lock_file.Holder, "is_here", _same_host),
    "a lock that cannot be read is free": _put(lock_file, "_read_bytes", _free_if_unreadable),
    "two take the lock at once": _put(run_lock, "_try_claim", _claims_by_writing),
    "settings are judged before the lock": _judges_first,
    "every row of a key is shown": _put(ranking.Ranking, "masks", _every_row_counts),
    "the last run counts whatever its term": _put(ranking.Ranking, "_number", _no_terms),
    "doubles stay": _put(compaction, "mend", lambda *_, **__: 0),
    "readers show what is not listed": _put(track_rows, "read_listed", lambda destination: None),
    "readers do not look again": _put(finished_rows, "read_finished", _reads_once),
    "two clocks are compared": _put(run_lock, "watch", _compares_clocks),
    "facts are those asked for": _facts_as_asked,
    "what was settled is not adopted": _put(adoption, "_adopt_group", _adopts_nothing),
}

LATE: dict[str, Change] = {
    "left-over files are removed without a look": _recovers_without_a_look,
    "Ray removes what is pending": _ray_removes,
    "a listing's files are removed without a look": _removes_without_a_look,
    "inputs are deleted without a look": _completes_without_a_look,
    "a late commit counts": _put(track_files.Commit, "is_whole", lambda self, names: True),
    "a late marker counts": _put(manifest_marker, "of_terms", lambda folder: []),
    "runs share the names of their todo": _put(resume, "_unique_name", lambda name: f"{name}.parquet"),
}

# The schedule by which each is found. The first 400 show none of "Ray removes what is pending", "a listing's files are
# removed without a look", "inputs are deleted without a look", "a late commit counts" and "runs share the names of
# their todo": they need two runs within a few tenths of a second. All but the first, which is Ray's own, have a test by
# themselves in test_manifest_merge, test_compaction, test_track_files and test_resume.
SEEDS = {
    "a suspended holder goes on": 6,
    "a pid is believed in another container": 14,
    "a lock that cannot be read is free": 32,
    "two take the lock at once": 25,
    "settings are judged before the lock": 166,
    "every row of a key is shown": 1,
    "the last run counts whatever its term": 24,
    "doubles stay": 1,
    "readers show what is not listed": 5,
    "readers do not look again": 13,
    "two clocks are compared": 87,
    "facts are those asked for": 1,
    "what was settled is not adopted": 2,
    "left-over files are removed without a look": 179,
    "a late marker counts": 63,
}
