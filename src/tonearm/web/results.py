"""A track's result as it travels, and as ``tonearm.tag_file`` gives it."""

from __future__ import annotations

from collections.abc import Mapping

from tonearm import __version__
from tonearm.heads import PUBLISHED
from tonearm.tagging import HeadPlan, TrackResult, model_names, result_columns
from tonearm.web import messages

# What a further head says of a track; in a message it stands under the head's name instead of in columns of its own.
HEAD_FIELDS = ("label", "score", "scores", "tags", "windows")


def to_message(result: TrackResult, plans: Mapping[str, HeadPlan], *, embeddings: bool) -> messages.TrackResult:
    """Return a result with the names of the models that gave it.

    Args:
        plans: of the heads that have scored the track.
    """
    names, heads = model_names(plans), [plan.head for plan in plans.values()]
    columns = result_columns(result, heads)
    vectors = {head.name: columns.pop(head.embedding).tolist() for head in heads}
    if embeddings:
        columns |= {head.embedding: vectors[head.name] for head in heads if head.is_published}
    others = {}
    for head in heads:
        if head.is_published:
            continue
        values = {field: columns.pop(getattr(head, field), None) for field in HEAD_FIELDS}
        vector = vectors[head.name] if embeddings else None
        others[head.name] = values | {"embedding": vector, "model": names[head.name]}
    models = {head.model: names.get(name) for name, head in PUBLISHED.items()}
    return messages.TrackResult.model_validate({**columns, **models, "heads": others, "tonearm_version": __version__})
