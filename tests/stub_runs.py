"""Runs of ``tonearm tag`` without Ray and without models: all but the scoring is the run's own code."""

from __future__ import annotations

import bisect
import dataclasses
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.simulation.runs import outcome, settings
from tonearm.distributed.tagging import driver, plans
from tonearm.distributed.tagging.run import Run, execute_in_turn, note_runtimes, run_facts
from tonearm.errors import TrackError
from tonearm.planning.preparation import settle
from tonearm.planning.summary import Outcome
from tonearm.runs import groups
from tonearm.runs.destination import Destination
from tonearm.runs.manifest import manifest
from tonearm.runs.rows import schema
from tonearm.runs.todo import OLD, TodoPart
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems
from tonearm.tagging import to_table
from tonearm.watchers import Watcher


class StubRuns:
    """Tags ``music`` into ``out``; what a head says of a track is made up of its key and the head's settings.

    Attributes:
        failures: tracks that cannot be read or scored, by the name of their file.
        scored: what the last run has scored: the names of files, sorted, by the heads that scored them.
        stop: raised by the next run after so many files of rows.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.music, self.out = root / "music", root / "out"
        self.failures: dict[str, TrackError] = {}
        self.scored: dict[tuple[str, ...], list[str]] = {}
        self.stop: tuple[int, BaseException] | None = None
        self.music.mkdir()
        for name in ("a.mp3", "b.mp3", "c.mp3"):
            (self.music / name).write_bytes(name.encode())
        monkeypatch.setattr(driver, "_execute", self._execute)
        monkeypatch.setattr(plans, "prepared", lambda plan, *_: plan)

    def tag(
        self,
        *heads: str,
        source: Path | None = None,
        rescore: Sequence[str] = (),
        retry_errors: bool = False,
        **models: Any,
    ) -> Outcome:
        """Do what ``tonearm tag`` does, by default for both heads."""
        self.scored = {}
        wanted = settings(heads or ("genre", "tags"), **models)
        sources = [str(source or self.music)]
        return driver.tag_library(sources, str(self.out), wanted, Watcher(), rescore=rescore, retry_errors=retry_errors)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return all rows by the name of their file; no track may have two."""
        tables = [pq.read_table(path) for path in sorted((self.out / "tracks").iterdir())]
        rows = pa.concat_tables(tables, promote_options="default").to_pylist()
        found = {Path(row["uri"]).name: row for row in rows}
        assert len(found) == len(rows), "a track has two rows"
        return found

    def forget_settings(self) -> None:
        """Have the destination be one of 0.1.0, whose rows do not say by which settings they were made."""
        silent = ("read_settings", "genre_settings", "tag_settings", "term")
        for path in (self.out / "tracks").iterdir():
            rows = [{**row, **dict.fromkeys(silent)} for row in pq.read_table(path).to_pylist()]
            pq.write_table(pa.Table.from_pylist(rows, schema=schema.TRACKS), path)
        place = Destination.of(str(self.out))
        known = {name: dataclasses.replace(group, adopts=True) for name, group in groups.read(place).items()}
        groups.write(place, known)

    def listed(self) -> set[str]:
        """Return the names of the listed files."""
        return {Path(ref.uri).name for ref in manifest.read_tracks(str(self.out / "manifest"))}

    def _execute(self, run: Run, todo: Sequence[TodoPart], watcher: Any) -> tuple[Run, None]:
        done = execute_in_turn(run, settle(run.plan, "cpu"), todo, 1, self._execute_once)
        runtime = "torch" if run.plan.models.runtime == "auto" else run.plan.models.runtime
        return note_runtimes(done, {head: {"runtime": runtime} for head in run.plan.heads}), None

    def _execute_once(self, run: Run, parts: Sequence[TodoPart], marks: str) -> None:
        plan = run.plan.only(parts[0].heads) if parts[0].heads else run.plan
        for part in parts:
            rows = filesystems.read_table(part.url)
            for number in range(rows.num_rows):
                if self.stop is not None and not self.stop[0]:
                    failure, self.stop = self.stop[1], None
                    raise failure
                if self.stop is not None:
                    self.stop = self.stop[0] - 1, self.stop[1]
                self._score(run, plan, rows.slice(number, 1), marks)

    def _score(self, run: Run, plan: Any, row: pa.Table, marks: str) -> None:
        (ref,) = [TrackRef(**values) for values in row.select(schema.MANIFEST.names).to_pylist()]
        name, heads = Path(ref.uri).name, tuple(plan.heads)
        failures = {ref.track_key: self.failures[name]} if name in self.failures else {}
        old = row[OLD] if OLD in row.column_names else None
        columns = [each.head for each in plan.heads.values()]
        table = to_table([ref], [outcome(ref, plan, failures)], run_facts(run), columns, old)
        file = uuid.uuid4().hex
        filesystems.write_table(run.destination.join("tracks", f"{file}_0-0.parquet"), table)
        filesystems.write_table(f"{run.destination.checkpoint(marks)}/{file}_0.parquet", table.select(["track_key"]))
        bisect.insort(self.scored.setdefault(heads, []), name)
