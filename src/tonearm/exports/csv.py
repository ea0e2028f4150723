"""CSV: every track, the failed ones too, in the order of the files of ``tracks/``.

A cell that a spreadsheet would take for a formula gets a leading apostrophe. ``track_key`` has up to 19 digits, and a
CSV has no types: all digits are there, of which a spreadsheet that takes them for a number shows 15.
"""

from __future__ import annotations

import csv
import dataclasses
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tonearm.exports.exporter import ExportRequest, Written, check_score
from tonearm.exports.output import whole_file
from tonearm.heads import PUBLISHED, TAGS, Head
from tonearm.runs.rows.schema import TRACKS
from tonearm.runs.rows.silent import silent_as

# What readers and runs decide by; it says nothing of the track.
BOOKKEEPING = ("term", "read_settings", *(head.settings for head in PUBLISHED.values()))
COLUMNS = [field for field in TRACKS if field.name not in BOOKKEEPING]
SCALARS = [field.name for field in COLUMNS if not pa.types.is_list(field.type)]
# The characters that OWASP lists under "CSV Injection".
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclasses.dataclass(frozen=True)
class Csv:
    """One line per track: the scalar columns, the best tags, then other heads' labels, several of a track in one cell.

    Attributes:
        min_score: leave out tags that score less.
    """

    endings: ClassVar[tuple[str, ...]] = (".csv",)
    is_folder: ClassVar[bool] = False

    min_score: float | None = None

    def __post_init__(self) -> None:
        check_score(self.min_score)

    def write(self, request: ExportRequest) -> Written:
        """Write the file."""
        threshold, num_tracks, heads = self.min_score or 0.0, 0, request.rows.heads
        shown = [(TAGS.tags, "top_tags"), *((name, name) for head in heads for name in _in_cells(head))]
        added = [(column, title) for column, title in shown if column is not None]
        columns = [*SCALARS, *(column for column, _ in added)]
        with whole_file(request.output) as file:
            writer = csv.writer(file)
            writer.writerow([*SCALARS, *(title for _, title in added)])
            for batch in request.batches(columns):
                batch = silent_as(batch, None, heads)
                writer.writerows(zip(*(_cells(batch[name], threshold) for name in columns), strict=True))
                num_tracks += batch.num_rows
        return Written(num_tracks, num_files=1)


def _in_cells(head: Head) -> list[str]:
    return [name for name in (head.label, head.score, head.tags, head.model) if name is not None]


def _cells(column: pa.Array, threshold: float) -> list[Any]:
    values = column.to_pylist()
    if pa.types.is_list(column.type):
        return [_safe(_join_tags(tags, threshold)) for tags in values]
    # Only texts: an apostrophe before a negative number would make it a text.
    if pa.types.is_string(column.type):
        return [_safe(value or "") for value in values]
    if pa.types.is_float32(column.type):
        # The fewest digits that are this number again, as float32: 0.9 and not 0.8999999761581421.
        return ["" if value is None else str(np.float32(value)) for value in values]
    if pa.types.is_timestamp(column.type):
        return ["" if value is None else value.isoformat() for value in values]
    return values


def _safe(text: str) -> str:
    """Return ``text`` with a leading apostrophe if a spreadsheet would run it (OWASP, "CSV Injection")."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _join_tags(tags: list[dict[str, Any]] | None, threshold: float) -> str:
    scored = ((tag["label"], tag["score"] or 0.0) for tag in tags or ())
    return "; ".join(f"{label}:{score:.4g}" for label, score in scored if score >= threshold)
