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

from tonearm.exports.exporter import ExportRequest, check_score
from tonearm.exports.output import whole_file
from tonearm.runs.rows.schema import TRACKS
from tonearm.runs.rows.silent import silent_as

# What readers and runs decide by; it says nothing of the track.
BOOKKEEPING = ("term", "read_settings", "genre_settings", "tag_settings")
COLUMNS = [field for field in TRACKS if field.name not in BOOKKEEPING]
SCALARS = [field.name for field in COLUMNS if not pa.types.is_list(field.type)]
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclasses.dataclass(frozen=True)
class Csv:
    """One line per track: the scalar columns and then the best tags.

    Attributes:
        min_score: leave out tags that score less.
    """

    endings: ClassVar[tuple[str, ...]] = (".csv",)
    is_folder: ClassVar[bool] = False

    min_score: float | None = None

    def __post_init__(self) -> None:
        check_score(self.min_score)

    def write(self, request: ExportRequest) -> tuple[int, int]:
        """Write the file; return the number of tracks and of files."""
        num_tracks = 0
        with whole_file(request.output) as file:
            writer = csv.writer(file)
            writer.writerow([*SCALARS, "top_tags"])
            for batch in request.batches([*SCALARS, "tags"]):
                batch = silent_as(batch, None)
                columns = [_cells(batch[name]) for name in SCALARS]
                columns.append([_safe(_join_tags(tags, self.min_score or 0.0)) for tags in batch["tags"].to_pylist()])
                writer.writerows(zip(*columns, strict=True))
                num_tracks += batch.num_rows
        return num_tracks, 1


def _cells(column: pa.Array) -> list[Any]:
    values = column.to_pylist()
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
