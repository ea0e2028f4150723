"""CSV and JSON Lines: every track, the failed ones too, in the order of the files of ``tracks/``.

A cell of the CSV that a spreadsheet would take for a formula gets a leading apostrophe; JSON Lines are never changed.
``track_key`` has up to 19 digits: in JSON Lines it is text, since jq and JavaScript have 15 of a number; a CSV has no
types, so it has all digits there, of which a spreadsheet that takes them for a number shows 15.
"""

from __future__ import annotations

import csv
import datetime
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tonearm.exports.output import ExportRequest, whole_file
from tonearm.heads import PUBLISHED, TAGS, Head
from tonearm.runs.rows import track_rows
from tonearm.runs.rows.ranking import KEY
from tonearm.runs.rows.schema import TRACKS
from tonearm.runs.rows.silent import silent_as

# Rows with their timeline may have thousands of windows each.
NESTED_BATCH_ROWS = 128
# What readers and runs decide by; it says nothing of the track.
BOOKKEEPING = ("term", "read_settings", *(head.settings for head in PUBLISHED.values()))
COLUMNS = [field for field in TRACKS if field.name not in BOOKKEEPING]
SCALARS = [field.name for field in COLUMNS if not pa.types.is_list(field.type)]
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_csv(request: ExportRequest) -> tuple[int, int]:
    """Write one line per track: the scalar columns, the best tags, then other heads' labels; return how many of each.

    The numbers are those of tracks and of files. A head with independent labels has them in one cell, as tags are.
    """
    threshold, num_tracks = request.threshold(0.0), 0
    shown = [(TAGS.tags, "top_tags"), *((name, name) for head in request.rows.heads for name in _in_cells(head))]
    added = [(column, title) for column, title in shown if column is not None]
    columns = [*SCALARS, *(column for column, _ in added)]
    batches = track_rows.scan(request.destination, columns, rows=request.rows, batch_rows=1024)
    with whole_file(request.output) as file:
        writer = csv.writer(file)
        writer.writerow([*SCALARS, *(title for _, title in added)])
        for batch in batches:
            batch = silent_as(batch, None, request.rows.heads)
            cells = [_cells(batch[name], threshold) for name in columns]
            writer.writerows(zip(*cells, strict=True))
            num_tracks += batch.num_rows
    return num_tracks, 1


def _in_cells(head: Head) -> list[str]:
    return [name for name in (head.label, head.score, head.tags, head.model) if name is not None]


def _cells(column: pa.Array, threshold: float) -> list[Any]:
    values = column.to_pylist()
    if pa.types.is_list(column.type):
        return [_safe(_join_tags(tags, threshold)) for tags in values]
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


def write_jsonl(request: ExportRequest) -> tuple[int, int]:
    """Write one object a track, float32 numbers rounded to 7 decimals; return the number of tracks and of files."""
    names = [field.name for field in COLUMNS if request.include_embeddings or field.name not in track_rows.EMBEDDINGS]
    for head in request.rows.heads:
        names += [name for name in head.columns if request.include_embeddings or name != head.embedding]
    tags = [head.tags for head in (TAGS, *request.rows.heads) if head.tags is not None]
    threshold, num_tracks = request.threshold(0.0), 0
    batches = track_rows.scan(request.destination, names, rows=request.rows, batch_rows=NESTED_BATCH_ROWS)
    with whole_file(request.output) as file:
        for batch in batches:
            batch = silent_as(batch, None, request.rows.heads)
            columns = [batch[name].cast(pa.string()) if name == KEY else _round(batch[name]) for name in names]
            rounded = pa.RecordBatch.from_arrays(columns, names)
            for row in rounded.to_pylist():
                for column in tags if threshold else ():
                    row[column] = row[column] and [tag for tag in row[column] if tag["score"] >= threshold]
                file.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")
            num_tracks += batch.num_rows
    return num_tracks, 1


def _round(array: pa.Array) -> pa.Array:
    """Return ``array`` with its float32 numbers as float64 of 7 decimals: 0.9 instead of 0.8999999761581421."""
    kind = array.type
    if pa.types.is_float32(kind):
        return pc.round(array.cast(pa.float64()), 7)
    if pa.types.is_list(kind):
        inner = _round(array.flatten())
        # `flatten` leaves null lists out, so the lengths give the offsets, whatever slice this is.
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, inner, mask=array.is_null())
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        parts = [_round(array.field(place)) for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays(parts, [field.name for field in fields], mask=array.is_null())
    return array


def _plain(value: Any) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in a row of tracks")
