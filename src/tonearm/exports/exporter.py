"""What an export format is: the contract of ``registry.EXPORTERS`` and of what other packages add to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.dataset as ds

from tonearm.errors import UsageError
from tonearm.heads import PUBLISHED, Head
from tonearm.runs.rows import track_rows
from tonearm.runs.rows.track_rows import ListedRows

OK = ds.field("status") == "ok"


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """Which rows go where; ``rows`` are the same ones in each pass over them."""

    destination: str
    output: str
    rows: ListedRows

    def batches(
        self, columns: Sequence[str], *, only_ok: bool = False, batch_rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows with some of the columns of ``schema.TRACKS`` and ``rows.heads``, in the order of the files.

        Args:
            only_ok: without the tracks that failed.
            batch_rows: the most rows of a batch; 128 are right where ``windows`` is among the columns.
        """
        rows_filter = OK if only_ok else None
        return track_rows.scan(self.destination, list(columns), rows_filter, rows=self.rows, batch_rows=batch_rows)


class Written(NamedTuple):
    """What an export has written: tracks that are in it, and files."""

    num_tracks: int
    num_files: int


class Exporter(Protocol):
    """Writes tracks in one format. The class is made once per export; its keyword arguments are its options.

    tonearm finds it by name or by the ending of OUTPUT, checks that OUTPUT is free and of the right kind, decides which
    rows count, and says what was written. The exporter checks its options when it is made (``UsageError``), reads rows
    through ``request.batches``, and writes through ``tonearm.exports.output``, so that a file is there whole or not at
    all and a full disk is one line. Rows come in any order; who needs another sorts them. A text may hold line breaks
    and anything else that the format must quote. An error that is not tonearm's is reported as the exporter's own.

    Attributes:
        endings: of OUTPUT, with their dots, in lower case, that stand for this format.
        is_folder: whether OUTPUT is a folder of files.
    """

    endings: ClassVar[tuple[str, ...]]
    is_folder: ClassVar[bool]

    def write(self, request: ExportRequest) -> Written:
        """Write ``request.output`` and return how much that was."""
        ...


def check_score(min_score: float | None) -> None:
    """Refuse a lowest score that no score can have.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if min_score is None:
        return
    if isinstance(min_score, bool) or not isinstance(min_score, int | float) or not 0 <= min_score <= 1:
        raise UsageError(f"got a minimum score of {min_score!r}, expected a number between 0 and 1")


def head_by(by: str, others: Iterable[Head]) -> Head:
    """Return the head whose labels ``by`` stands for: ``genre``, ``tag``, or the name of one of ``others``.

    Raises:
        UsageError: there is none, or it has no labels.
    """
    known = {head.prefix or head.name: head for head in PUBLISHED.values()}
    known |= {head.name: head for head in others if head.activation != "embedding"}
    if by not in known:
        raise UsageError(f"got by = {by!r}, expected {' or '.join(map(repr, known))}")
    return known[by]
