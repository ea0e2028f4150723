"""The rows that tonearm writes, as versioned Arrow schemas.

``MANIFEST`` is one listed track; ``TRACKS`` is one finished track, whether it succeeded or failed.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "2"

MANIFEST = pa.schema(
    [
        pa.field("track_key", pa.int64(), nullable=False),
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
        pa.field("track_key", pa.int64(), nullable=False),
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
        # Since format 2; null in rows of 0.1.0. The term of the run's lock, and for each group of columns the hash of
        # what decided its content: null where the row does not have the group.
        pa.field("term", pa.int64()),
        pa.field("read_settings", pa.string()),
        pa.field("genre_settings", pa.string()),
        pa.field("tag_settings", pa.string()),
        # Nothing of it is louder than -60 dB of full scale; null in rows from before there was the column.
        pa.field("silent", pa.bool_()),
    ],
    metadata={"tonearm.schema": "tracks", "tonearm.schema_version": SCHEMA_VERSION},
)
