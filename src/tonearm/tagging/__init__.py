"""Tagging a track: from its bytes to its result, and from that to its row. Batch, serving and evaluation share it.

``plan`` decides which heads score a track and how and ``fallbacks`` which model each asks when it is unsure, ``tagger``
scores the track, and ``rows`` makes its row.
"""

from tonearm.tagging.fallbacks import with_fallbacks
from tonearm.tagging.plan import (
    FallbackPlan,
    HeadPlan,
    RunFacts,
    TagPlan,
    decode_request,
    every_model,
    fallback_name,
    load_head,
    model_columns,
    model_names,
    plan_heads,
)
from tonearm.tagging.rows import result_columns, to_row, to_table, window_row
from tonearm.tagging.tagger import Heads, Tagger, TrackResult, tag_bytes

__all__ = [
    "FallbackPlan",
    "HeadPlan",
    "Heads",
    "RunFacts",
    "TagPlan",
    "Tagger",
    "TrackResult",
    "decode_request",
    "every_model",
    "fallback_name",
    "load_head",
    "model_columns",
    "model_names",
    "plan_heads",
    "result_columns",
    "tag_bytes",
    "to_row",
    "to_table",
    "window_row",
    "with_fallbacks",
]
