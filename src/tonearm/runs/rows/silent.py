"""How tracks are shown in which there is nothing to hear: as silent, without a genre."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from tonearm.heads import GENRE, Head

# What a track is called in which there is nothing to hear, instead of a genre.
SILENT = "silent"
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def silent_as(rows: Rows, name: str | None, others: Iterable[Head] = ()) -> Rows:
    """Return rows of which the silent ones that have a genre have ``name`` instead; their scores stay.

    Args:
        others: further heads, whose one label is replaced likewise.
    """
    for label in (head.label for head in (GENRE, *others)):
        if label is None:
            continue
        place, column = rows.schema.get_field_index(label), rows[label]
        is_named = pc.and_(pc.fill_null(rows["silent"], False), pc.is_valid(column))
        renamed = pc.if_else(is_named, pa.scalar(name, column.type), column)
        rows = rows.set_column(place, rows.schema.field(place), renamed)
    return rows
