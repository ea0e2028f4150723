"""Show silent tracks as "silent" instead of with a genre: a model gives every input some label, silence too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from tonearm.heads import GENRE, Head

# Shown in place of a silent track's genre.
SILENT = "silent"
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def silent_as(rows: Rows, name: str | None, others: Iterable[Head] = ()) -> Rows:
    """Return the rows with ``name`` in place of the genre of silent tracks; scores are not changed.

    Args:
        others: further heads whose single label is replaced too.
    """
    for label in (head.label for head in (GENRE, *others)):
        if label is None:
            continue
        index, column = rows.schema.get_field_index(label), rows[label]
        # A row without the head has no label to replace.
        is_named = pc.and_(pc.fill_null(rows["silent"], False), pc.is_valid(column))
        renamed = pc.if_else(is_named, pa.scalar(name, column.type), column)
        rows = rows.set_column(index, rows.schema.field(index), renamed)
    return rows
