"""The versioned Arrow schemas of the rows that tonearm writes.

A row of ``MANIFEST`` is a listed track; a row of ``TRACKS`` is a finished track, whether it succeeded or failed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

import pyarrow as pa

from tonearm.heads import PUBLISHED, Head, by_name, heads_among
from tonearm.runs.places import KEY

SCHEMA_VERSION = "2"

MANIFEST = pa.schema(
    [
        pa.field(KEY, pa.int64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("modified", pa.timestamp("us", tz="UTC")),
    ],
    metadata={"tonearm.schema": "manifest", "tonearm.schema_version": SCHEMA_VERSION},
)

LABEL_SCORE = pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())])

TAG = pa.struct(
    [
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("max_score", pa.float32()),
        pa.field("max_start_s", pa.float64()),
    ]
)

WINDOW = pa.struct(
    [
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("genre", pa.string()),
        pa.field("genre_score", pa.float32()),
        pa.field("tags", pa.list_(LABEL_SCORE)),
    ]
)

TRACKS = pa.schema(
    [
        pa.field(KEY, pa.int64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("modified", pa.timestamp("us", tz="UTC")),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("coverage", pa.float32()),
        pa.field("sample_rate", pa.int32()),
        pa.field("channels", pa.int32()),
        pa.field("codec", pa.string()),
        pa.field("title", pa.string()),
        pa.field("artist", pa.string()),
        pa.field("album", pa.string()),
        pa.field("genre", pa.string()),
        pa.field("genre_score", pa.float32()),
        pa.field("genre_scores", pa.list_(LABEL_SCORE)),
        pa.field("tags", pa.list_(TAG)),
        pa.field("windows", pa.list_(WINDOW)),
        pa.field("genre_embedding", pa.list_(pa.float32())),
        pa.field("tag_embedding", pa.list_(pa.float32())),
        pa.field("genre_model", pa.string()),
        pa.field("tag_model", pa.string()),
        pa.field("tonearm_version", pa.string()),
        pa.field("run_id", pa.string()),
        # Since format 2, null in rows of 0.1.0: the term of the run's lock, and for each group of columns its settings
        # hash, which is null if the row does not have the group.
        pa.field("term", pa.int64()),
        pa.field("read_settings", pa.string()),
        pa.field("genre_settings", pa.string()),
        pa.field("tag_settings", pa.string()),
        # Whether all of it is quieter than -60 dB of full scale; null in rows that are older than this column.
        pa.field("silent", pa.bool_()),
    ],
    metadata={"tonearm.schema": "tracks", "tonearm.schema_version": SCHEMA_VERSION},
)

# The windows in a head's column NAME_windows. ``windows``, which genre and tags share, has the type ``WINDOW``.
LABEL_WINDOW = pa.struct([WINDOW.field("start_s"), WINDOW.field("end_s"), *LABEL_SCORE])
TAGS_WINDOW = pa.struct([WINDOW.field("start_s"), WINDOW.field("end_s"), pa.field("tags", pa.list_(LABEL_SCORE))])
# Metadata key under which a table of ``finished_rows`` has the names of all columns of its file.
FILE_COLUMNS = b"tonearm.file_columns"


def head_fields(head: Head) -> list[pa.Field]:
    """Return the fields of a head's columns and of its settings hash; for the published heads those of ``TRACKS``."""
    if head.is_published:
        return [TRACKS.field(name) for name in (*head.columns, head.settings)]
    types = {
        head.label: pa.string(),
        head.score: pa.float32(),
        head.scores: pa.list_(LABEL_SCORE),
        head.tags: pa.list_(TAG),
        head.windows: pa.list_(TAGS_WINDOW if head.is_multi else LABEL_WINDOW),
        head.embedding: pa.list_(pa.float32()),
    }
    return [pa.field(name, types.get(name, pa.string())) for name in (*head.columns, head.settings)]


def tracks_of(heads: Iterable[Head]) -> pa.Schema:
    """Return ``TRACKS`` followed by the columns of further heads, in the order of ``heads``."""
    head_columns = [field for head in heads if not head.is_published for field in head_fields(head)]
    return pa.schema([*TRACKS, *head_columns], metadata=TRACKS.metadata)


def columns_of_file(table: pa.Table) -> tuple[str, ...]:
    """Return the names of all columns of the file that a table of ``finished_rows`` was read from, read or not."""
    metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
    return tuple(json.loads(metadata.get(FILE_COLUMNS, b"[]")))


def heads_of(columns: Collection[str]) -> dict[str, Head]:
    """Return the heads that rows with these columns may have, the published ones first."""
    return by_name(PUBLISHED.values(), heads_among(columns))
