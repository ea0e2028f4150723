"""A track's result as it travels, and as ``tonearm.tag_file`` gives it."""

from __future__ import annotations

from collections.abc import Mapping

from tonearm import __version__
from tonearm.tagging import HeadPlan, TrackResult, model_columns, result_columns
from tonearm.web import messages


def to_message(result: TrackResult, plans: Mapping[str, HeadPlan], *, embeddings: bool) -> messages.TrackResult:
    """Return a result with the names of the models that gave it.

    Args:
        plans: of the heads that have scored the track.
    """
    columns = result_columns(result)
    for name in ("genre_embedding", "tag_embedding"):
        vector = columns.pop(name, None)
        if embeddings and vector is not None:
            columns[name] = vector.tolist()
    return messages.TrackResult.model_validate({**columns, **model_columns(plans), "tonearm_version": __version__})
