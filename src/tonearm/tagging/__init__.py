"""The one composition: a track's bytes become its result, and that a row. Batch, serving and evaluation call it.

``plan`` says which heads score a track and how, ``tagger`` scores it, ``rows`` makes its row.
"""

from tonearm.tagging.plan import (
    HeadPlan,
    RunFacts,
    TagPlan,
    decode_request,
    load_head,
    model_columns,
    model_names,
    plan_heads,
)
from tonearm.tagging.rows import result_columns, to_row, to_table, window_row
from tonearm.tagging.tagger import Heads, Tagger, TrackResult, tag_bytes

__all__ = [
    "HeadPlan",
    "Heads",
    "RunFacts",
    "TagPlan",
    "Tagger",
    "TrackResult",
    "decode_request",
    "load_head",
    "model_columns",
    "model_names",
    "plan_heads",
    "result_columns",
    "tag_bytes",
    "to_row",
    "to_table",
    "window_row",
]
