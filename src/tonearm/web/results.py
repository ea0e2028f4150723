"""A track's result as it travels, and as ``tonearm.tag_file`` gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    vectors = {head.name: columns.pop(head.embedding) for head in heads}
    # Hundreds of numbers per head become a list only where they were asked for.
    lists = {name: vector.tolist() for name, vector in vectors.items()} if embeddings else {}
    columns |= {head.embedding: lists[head.name] for head in heads if head.is_published and embeddings}
    others = {}
    for head in heads:
        if head.is_published:
            continue
        values = {field: columns.pop(getattr(head, field), None) for field in HEAD_FIELDS}
        others[head.name] = values | {"embedding": lists.get(head.name), "model": names[head.name]}
    fixed = {**_published_models(names), "heads": others, "tonearm_version": __version__}
    return messages.TrackResult.model_validate({**columns, **fixed})


def to_embeddings(result: TrackResult, plans: Mapping[str, HeadPlan]) -> messages.Embeddings:
    """Return a result's embeddings, with the names of the models that gave them."""
    names = model_names(plans)
    vectors = {name: pooled.embedding.tolist() for name, pooled in result.heads.items()}
    others = {
        name: messages.HeadEmbedding(embedding=vector, model=names[name])
        for name, vector in vectors.items()
        if name not in PUBLISHED
    }
    published: dict[str, Any] = {head.embedding: vectors.get(name) for name, head in PUBLISHED.items()}
    published |= _published_models(names)
    info = result.info
    return messages.Embeddings(duration_s=info.duration_s, coverage=result.coverage, heads=others, **published)


def _published_models(names: Mapping[str, str]) -> dict[str, str | None]:
    return {head.model: names.get(name) for name, head in PUBLISHED.items()}
