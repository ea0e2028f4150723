"""JSON Lines: every track, the failed ones too, in the order of the files of ``tracks/``; nothing is quoted or changed.

``track_key`` has up to 19 digits, and jq and JavaScript have 15 of a number: it is text.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tonearm.exports.csv import COLUMNS
from tonearm.exports.exporter import ExportRequest, Written, check_score
from tonearm.exports.output import whole_file
from tonearm.heads import TAGS
from tonearm.runs.places import KEY
from tonearm.runs.rows import track_rows
from tonearm.runs.rows.silent import silent_as

# Rows with their timeline may have thousands of windows each.
BATCH_ROWS = 128


@dataclasses.dataclass(frozen=True)
class JsonLines:
    """One object per track, float32 numbers rounded to 7 decimals.

    Attributes:
        min_score: leave out tags that score less.
        include_embeddings: also the embeddings.
    """

    endings: ClassVar[tuple[str, ...]] = (".jsonl",)
    is_folder: ClassVar[bool] = False

    min_score: float | None = None
    include_embeddings: bool = False

    def __post_init__(self) -> None:
        check_score(self.min_score)

    def write(self, request: ExportRequest) -> Written:
        """Write the file."""
        names = [field.name for field in COLUMNS if self.include_embeddings or field.name not in track_rows.EMBEDDINGS]
        for head in request.rows.heads:
            names += [name for name in head.columns if self.include_embeddings or name != head.embedding]
        tags = [head.tags for head in (TAGS, *request.rows.heads) if head.tags is not None]
        threshold, num_tracks = self.min_score or 0.0, 0
        with whole_file(request.output) as file:
            for batch in request.batches(names, batch_rows=BATCH_ROWS):
                batch = silent_as(batch, None, request.rows.heads)
                # jq and JavaScript read numbers as doubles, which have 15 digits of a key's 19.
                columns = [batch[name].cast(pa.string()) if name == KEY else _round(batch[name]) for name in names]
                rounded = pa.RecordBatch.from_arrays(columns, names)
                for row in rounded.to_pylist():
                    for column in tags if threshold else ():
                        row[column] = row[column] and [tag for tag in row[column] if tag["score"] >= threshold]
                    file.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")
                num_tracks += batch.num_rows
        return Written(num_tracks, num_files=1)


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


def _plain(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in a row of tracks")
