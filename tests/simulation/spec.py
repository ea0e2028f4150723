"""What must be true of a destination at every moment, whoever reads it: told from what was committed, not from files.

The store's changes are followed as they land. A row is *committed* when the mark of its file is renamed by a run whose
lock has not been claimed by another. From then on nothing may show less for its track: no row of a lower rank, no row
without a group that it has, and not nothing, for as long as the track is listed.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.simulation.store import Store
from tests.simulation.world import Process, Violation, World
from tonearm.errors import FetchError, ScoreError, TrackError
from tonearm.runs.places import KEY

Rank = tuple[int, str]
# What of a row decides what is seen of it.
SEEN = ("uri", "etag", "status", "title", "genre", "genre_settings", "tag_settings", "term", "run_id", "mood")
COLUMNS = [KEY, "uri", "etag", "status", "title", "genre", "tags", "genre_settings", "tag_settings", "term", "run_id"]
# A lock that is written again within so many seconds is alive: beats come every 15 s, and a store may be slow.
LIVE_S = 30.0
GROUPS = {"genre": "genre_settings", "tags": "tag_settings"}


@dataclasses.dataclass
class Listed:
    """A listing that has been in force.

    Attributes:
        since: the moment at which it landed.
        until: the moment from which another was in force.
    """

    keys: frozenset[int]
    term: int
    since: float
    until: float = float("inf")


class Spec:
    """Follows one schedule and says what is wrong with it."""

    def __init__(self, world: World, store: Store, out: str) -> None:
        self.world, self.store = world, store
        self.base = out.removeprefix("memory://")
        self.listings: list[Listed] = []
        # By key, in order: from when on rows of which rank are committed, with the groups that they have.
        self.committed: dict[int, list[tuple[float, Rank, frozenset[str]]]] = {}
        self.written: dict[tuple[int, Rank], dict[str, Any]] = {}
        self.promised: dict[int, float] = {}
        self.contents: dict[str, str] = {}
        self.claims: dict[int, float] = {}
        self.beats: dict[str, list[float]] = {}
        self.holders: dict[int, tuple[Process, str]] = {}
        self.released: set[int] = set()
        self.facts: dict[str, str] = {}
        self.kept: dict[int, str] = {}  # what a column that tonearm does not know says
        self.num_reads = self.num_complete = self.num_displaced = 0
        self.ended: dict[str, int] = {}
        self._commits: dict[str, tuple[Any, pa.Table]] = {}
        store.listeners.append(self._changed)

    # What lands

    def _changed(self, path: str, data: bytes | None) -> None:
        name = path.removeprefix(f"{self.base}/")
        if data is None or name == path:
            return
        if path in self._commits:
            run, table = self._commits.pop(path)
            if not self.is_displaced(run.hold.term):
                self._commit(table)
        elif name.startswith("manifest/_manifest") and name.endswith(".json"):
            self._list(json.loads(data))
        elif name.startswith("_checkpoint/terms/") and name.endswith(".json"):
            term = int(name.rpartition("/")[2].removesuffix(".json"))
            values = json.loads(data)
            if values["released"]:
                self.released.add(term)
            elif term not in self.claims:
                self._take(term)
                self.claims[term] = self.world.now
        elif name == "_checkpoint/groups.json":
            self._settle(json.loads(data)["groups"])
        elif name == "_checkpoint/lock.json":
            values = json.loads(data)
            self.beats.setdefault(values["token"], []).append(self.world.now)

    def _take(self, term: int) -> None:
        """Check that the term before was over, or silent for a while."""
        claimant, (holder, token) = self.store.writer, self.holders.get(term - 1, (None, ""))
        if claimant is None or holder is None or holder.is_dead or holder is claimant:
            return
        now, since = self.world.now, claimant.began_to_take
        beats = [when for when in self.beats.get(token, []) if when <= now]
        moments = [max([when for when in beats if when < since], default=since), *(w for w in beats if w >= since), now]
        gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
        if max(gaps) < LIVE_S and term - 1 not in self.released:
            raise Violation(f"{claimant.name} takes the lock of {holder.name}, which wrote it at {moments[:-1]}")

    def _settle(self, groups: Mapping[str, Any]) -> None:
        """Check that a run does not put its own facts in the place of others unless it was told to."""
        process = self.store.writer
        if process is None or process.term is None or self.is_displaced(process.term):
            return
        for head, group in groups.items():
            before = self.facts.get(head)
            if before not in (None, group["hash"], *group["known_as"]) and head not in process.action.rescore:
                raise Violation(f"{process.name} puts other settings of {head} in the place of those that were there")
            self.facts[head] = group["hash"]

    def is_displaced(self, term: int, when: float | None = None) -> bool:
        when = self.world.now if when is None else when
        return any(other > term and since < when for other, since in self.claims.items())

    def _list(self, marker: Mapping[str, Any]) -> None:
        term = max((listing["term"] for listing in marker.get("listings", [])), default=0)
        term = max(term, marker.get("term", 0))
        keys: set[int] = set()
        for part in marker["parts"]:
            found = self.store.objects.get(f"{self.base}/manifest/{part}")
            if found is not None:
                keys |= set(pq.ParquetFile(io.BytesIO(found.data)).read([KEY], use_threads=False)[KEY].to_pylist())
        if self.listings and self.listings[-1].term > term:
            return  # a displaced run's, which must not count
        if self.listings:
            if self.listings[-1].keys == keys:
                self.listings[-1].term = term
                return
            self.listings[-1].until = self.world.now
        self.listings.append(Listed(frozenset(keys), term, self.world.now))

    def _commit(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            rank = (row["term"] or 0, row["run_id"])
            has = frozenset(head for head, column in GROUPS.items() if row["status"] == "ok" and row[column])
            known = self.committed.setdefault(row[KEY], [])
            if not known or known[-1][1] < rank:
                known.append((self.world.now, rank, has))

    # What runs say

    def writes(self, table: pa.Table, name: str) -> None:
        """Note rows that are about to be written."""
        for row in table.to_pylist():
            rank = (row["term"] or 0, row["run_id"])
            seen = _seen(row)
            before = self.written.setdefault((row[KEY], rank), seen)
            if before != seen:
                raise Violation(f"one run writes two rows of track {row[KEY]}: {before} and {seen}")

    def commits(self, path: str, run: Any, table: pa.Table) -> None:
        """Note rows that count as soon as the mark at ``path`` is there."""
        self._commits[path] = (run, table)

    def failures(self, run_id: str) -> dict[int, TrackError]:
        """Return which tracks fail in a run, by key."""
        return _Failures(run_id)

    def acquired(self, term: int, token: str) -> None:
        """Note that a process holds the lock."""
        process = self.world.process
        process.term = term
        if term in self.holders:
            raise Violation(f"{process.name} and {self.holders[term][0].name} both hold term {term}")
        self.holders[term] = (process, token)

    def completed(self, keys: Iterable[int], term: int, checked: float) -> None:
        """Note that a run says that all ``keys`` have their row; it last looked at its lock at ``checked``."""
        if self.is_displaced(term, checked):
            raise Violation(f"{self.world.process.name} of term {term} says complete although another has taken over")
        self.num_complete += 1
        for key in keys:
            self.promised.setdefault(key, self.world.now)

    # What readers see

    def check(self, rows: list[dict[str, Any]], since: float) -> None:
        """Check what a reader has read since then.

        Raises:
            Violation: it is wrong.
        """
        self.num_reads += 1
        now = self.world.now
        keys = [row[KEY] for row in rows]
        if len(keys) != len(set(keys)):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise Violation(f"tracks {twice} have two visible rows")
        in_force = [listed for listed in self.listings if listed.since <= now and listed.until >= since]
        if self.listings and self.listings[0].since < since:
            always = frozenset.intersection(*(listed.keys for listed in in_force))
            ever = frozenset().union(*(listed.keys for listed in in_force))
            if gone := sorted(set(keys) - ever):
                raise Violation(f"tracks {gone} are shown, and no longer listed")
            due = {
                key
                for key in always
                if self.promised.get(key, now) < since or (key in self.committed and self.committed[key][0][0] < since)
            }
            if missing := sorted(due - set(keys)):
                raise Violation(f"tracks {missing} are listed and have a row, and are not shown")
        for row in rows:
            self._check_row(row, since)

    def _check_row(self, row: dict[str, Any], since: float) -> None:
        key, rank = row[KEY], (row["term"] or 0, row["run_id"])
        seen = _seen(row)
        written = self.written.get((key, rank))
        if written != seen:
            raise Violation(f"track {key} is shown as {seen}, written was {written}")
        for when, committed, has in self.committed.get(key, ()):
            if when >= since:
                break
            if rank < committed:
                raise Violation(f"track {key} is shown as of {rank}, and {committed} was committed at {when:.2f} s")
            shown = {head for head, column in GROUPS.items() if row[column]}
            if lost := has - (shown if row["status"] == "ok" else set()):
                raise Violation(f"track {key} has lost {sorted(lost)}, which it had at {when:.2f} s")
        for head, column in GROUPS.items():
            value = row["genre"] if head == "genre" else row["tags"][0]["label"] if row["tags"] else None
            if row["status"] != "ok" or not row[column]:
                continue
            if value is None:
                raise Violation(f"track {key} says {head} by {row[column]}, and has none")
            made_of, _, of_key = value.rpartition("|")
            if int(of_key) != key:
                raise Violation(f"track {key} has the {head} of track {of_key}")
            known = self.contents.setdefault(row[column], made_of)
            if known != made_of:
                raise Violation(f"{column} {row[column]} stands for {known} and for {made_of}")
        if key in self.kept and row.get("mood") != self.kept[key]:
            raise Violation(f"track {key} has lost its mood {self.kept[key]}: {row.get('mood')}")


class _Failures(dict[int, TrackError]):
    """One track in nine cannot be read by a run, one in eleven cannot be scored by any."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_number = sum(run_id.encode())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, int) and ((key + self.run_number) % 9 == 0 or key % 11 == 0)

    def __getitem__(self, key: int) -> TrackError:
        if key % 11 == 0:
            return ScoreError("its score is no number", code="score_failed")
        return FetchError("the store did not answer", code="fetch_failed")


def _seen(row: Mapping[str, Any]) -> dict[str, Any]:
    tags = row["tags"][0]["label"] if row["tags"] else None
    return {name: row.get(name) for name in SEEN if name != "mood"} | {"tags": tags}
