"""``tonearm.open`` and ``Library``: what a destination can be asked and told, from any machine that can read it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from tonearm.api.flags import Source, place_of, texts
from tonearm.errors import DestinationError, UsageError
from tonearm.exports import export as exporting
from tonearm.exports.export import ExportCounts
from tonearm.report.page import write_report
from tonearm.runs import compaction, status
from tonearm.runs.compaction import Compacted
from tonearm.runs.destination import Destination
from tonearm.runs.lock import run_lock
from tonearm.runs.manifest import manifest
from tonearm.runs.rows import schema, track_files, track_rows
from tonearm.runs.rows.narrowing import narrow
from tonearm.runs.status import Status
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.watchers import Say, Watcher
from tonearm.wording import counted

if TYPE_CHECKING:
    import pandas


class Tracks:
    """Rows of a library, read when they are asked for: one for each listed track, the latest where there are several.

    It is also an Arrow stream (``__arrow_c_stream__``): Polars, DuckDB and pandas take it as it is.
    """

    def __init__(
        self, destination: str, columns: Sequence[str] | None, where: str | None, *, all_versions: bool
    ) -> None:
        self._destination = destination
        rows = track_rows.listed_rows(destination, unlisted=all_versions)
        fields = schema.tracks_of(rows.heads)
        self.columns = list(fields.names) if columns is None else _checked(columns, fields.names)
        self.schema = pa.schema([fields.field(name) for name in self.columns])
        self._rows = rows if where is None else narrow(destination, rows, where)

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self._rows.keys)

    def batches(self, batch_rows: int = track_rows.BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the rows as record batches of at most ``batch_rows``, in the order of the files.

        Raises:
            UsageError: batches of no rows.
            DestinationError: a file that cannot be read.
        """
        if isinstance(batch_rows, bool) or not isinstance(batch_rows, int) or batch_rows < 1:
            raise UsageError(f"got batch_rows={batch_rows!r}, expected a whole number from 1")
        return track_rows.scan(self._destination, self.columns, rows=self._rows, batch_rows=batch_rows)

    def arrow(self) -> pa.Table:
        """Return the rows as one Arrow table.

        Raises:
            DestinationError: a file that cannot be read.
        """
        return pa.Table.from_batches(self.batches(), self.schema)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the rows as a data frame of pandas."""
        return self.arrow().to_pandas()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the rows as an Arrow stream: https://arrow.apache.org/docs/format/CDataInterface."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return reader.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'track')} of {shown(self._destination)}: {', '.join(self.columns)}>"


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What ``Library.prune`` did.

    Attributes:
        num_forgotten: tracks that are no longer listed since a source was forgotten.
        num_rows: rows removed.
    """

    num_forgotten: int
    num_rows: int


class Library:
    """A destination: a folder or an object-store prefix that ``tag`` has written.

    Args:
        destination: as ``out`` of ``tag``.
    """

    def __init__(self, destination: Source) -> None:
        self.destination = place_of(destination, "the destination")
        self._place = Destination.of(self.destination)

    def tracks(
        self, columns: Sequence[str] | None = None, where: str | None = None, *, all_versions: bool = False
    ) -> Tracks:
        """Return the rows of the listed tracks.

        Args:
            columns: names of columns, in this order; by default all, those of further heads last. What is not asked for
                is not read.
            where: one DuckDB expression over the columns that is true or false for each row, such as
                ``"genre = 'rock' AND duration_s > 60"``.
            all_versions: also tracks that are no longer listed: deleted and renamed files, and changed ones as they
                were.

        Raises:
            UsageError: an unknown column, or a ``where`` that is no such expression.
            DestinationError: no tracks, or a file that cannot be read.
        """
        return Tracks(self.destination, columns, where, all_versions=all_versions)

    def status(self, *, waiting: Say | None = None) -> Status:
        """Return how far the library is: listed, done, failed, and whether a run is at work.

        Args:
            waiting: told when a run on another machine has to be watched for a sign of life.

        Raises:
            DestinationError: it cannot be read.
        """
        return status.read_status(self.destination, waiting=waiting)

    def report(self) -> str:
        """Write ``report.html`` again, from the rows and the last run; return where it is.

        Raises:
            DestinationError: no run has finished here, or it cannot be written.
        """
        return write_report(self.destination)

    def compact(self, *, watcher: Watcher | None = None) -> Compacted:
        """Put the many small files of ``tracks/`` together into few large ones, sorted by key.

        Raises:
            DestinationError: it cannot be read or written, or a run is at work.
        """
        watcher = watcher or Watcher()
        status.read_status(self.destination, is_watched=False)  # says so when there is nothing
        with run_lock.held(self._place, waiting=watcher.waiting) as hold:
            return compaction.compact(self._place, progress=watcher.rows, check=hold.check)

    def export(
        self,
        output: Source,
        *,
        format: str | None = None,
        where: str | None = None,
        all_versions: bool = False,
        overwrite: bool = False,
        **options: object,
    ) -> ExportCounts:
        """Write the rows for other programs.

        Args:
            output: a file, or a folder for ``audacity`` and ``m3u``.
            format: ``csv``, ``jsonl``, ``audacity``, ``m3u`` or ``embeddings``; by default what the ending says.
            where: as for ``tracks``.
            options: of the format: ``by``, ``min_score``, ``include_embeddings``, ``dim``; see ``exports.export``.

        Raises:
            UsageError: an unknown format, a value out of range, or a ``where`` that is no expression.
            DestinationError: no tracks, or the output is taken or cannot be written.
        """
        place = place_of(output, "the output")
        return exporting.export(
            self.destination,
            format or exporting.kind_of(place),
            place,
            where=where,
            all_versions=all_versions,
            overwrite=overwrite,
            **options,
        )

    def listings(self) -> dict[str, tuple[int, bool]]:
        """Return for each source that has been listed here how many tracks it has, and whether that is all of them.

        Raises:
            DestinationError: there is nothing here.
        """
        status.read_status(self.destination, is_watched=False)  # says so when there is nothing
        listed = manifest.listings(self._place.manifest)
        return {listing.source: (listing.num_tracks, listing.is_complete) for listing in listed}

    def prune(
        self,
        source: Sequence[str] = (),
        *,
        yes: bool = False,
        ask: Callable[[str], bool] | None = None,
        watcher: Watcher | None = None,
    ) -> Pruned:
        """Forget the listings of some sources, and remove the rows of what no source lists any more.

        Args:
            source: those to forget, by their names in ``listings``.
            yes: do not ask.
            ask: returns whether to do what a question says; it is asked once for each of ``source``, and then with the
                number of rows.

        Raises:
            UsageError: a source that was never listed here, or the answer was no; without ``yes`` and ``ask`` it is.
            DestinationError: it cannot be read or written, or a run is at work.
        """
        watcher, source = watcher or Watcher(), texts(source, "source")
        status.read_status(self.destination, is_watched=False)  # says so when there is nothing

        def check(question: str) -> None:
            if not yes and not (ask is not None and ask(question)):
                raise UsageError(f"{question} nothing was removed" if ask is None else "nothing was removed")

        # Before the lock is taken: nobody's run waits for an answer.
        for name in source:
            check(f"forget what {shown(name)} has listed?")
        num_forgotten = 0
        with run_lock.held(self._place, waiting=watcher.waiting) as hold:
            if source:
                num_forgotten = manifest.prune(self._place.manifest, source, check=hold.check)
                watcher.forgotten(num_forgotten)
            listed = track_rows.read_listed(self.destination)
            # What a killed compaction left is settled first, and then counted.
            compaction.recover(self._place)
            unlisted = compaction.unlisted(self._place, listed) if listed is not None else {}
            num_rows = sum(int((~rows).sum()) for rows in unlisted.values())
            if num_rows:
                check(f"remove {counted(num_rows, 'row')} that nothing shows?")
                compaction.mend(self._place, unlisted, check=hold.check)
        return Pruned(num_forgotten, num_rows)

    def __repr__(self) -> str:
        return f"Library({shown(self.destination)!r})"


def open(destination: Source) -> Library:
    """Return the library that ``tag`` has written to ``destination``, a folder or an object-store prefix.

    Raises:
        DestinationError: there is none.
    """
    library = Library(destination)
    place = Destination.of(library.destination)
    with filesystems.reading(library.destination):
        is_there = bool(filesystems.list_files(place.manifest) or track_files.finished(library.destination))
    if not is_there:
        raise DestinationError(
            f"{shown(library.destination)} holds no library (expected manifest/ and tracks/); give a destination of "
            "`tonearm tag SOURCE --out RUN`"
        )
    return library


def _checked(columns: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the columns that were asked for.

    Raises:
        UsageError: there is no such column.
    """
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        example = columns if isinstance(columns, str) else "uri"
        raise UsageError(f"got columns {columns!r}, expected a list of names, such as [{example!r}]")
    names = list(columns)  # what can be gone through only once is kept
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            advice = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(f"got column {name!r}; {advice}expected some of {', '.join(known)}")
    return names
