"""How tracks are shown in which there is nothing to hear: as silent, without a genre."""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

# What a track is called in which there is nothing to hear, instead of a genre.
SILENT = "silent"
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def silent_as(rows: Rows, name: str | None) -> Rows:
    """Return rows of which the silent ones that have a genre have ``name`` instead; their scores stay."""
    place, genre = rows.schema.get_field_index("genre"), rows["genre"]
    is_named = pc.and_(pc.fill_null(rows["silent"], False), pc.is_valid(genre))
    renamed = pc.if_else(is_named, pa.scalar(name, genre.type), genre)
    return rows.set_column(place, rows.schema.field(place), renamed)
