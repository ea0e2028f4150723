"""A synthesized music library and the small models trained on it, so that tonearm can be tried without any download."""

from __future__ import annotations

import functools
from importlib.resources import files

from tonearm.models.checkpoint import describe_checkpoint

NOTICE = "demo models: small, and they know only synthesized music; real music needs other models"


def models() -> dict[str, str]:
    """Return the settings that name both small models."""
    return {"genre_model": genre_model_path(), "tag_model": tag_model_path()}


def genre_model_path() -> str:
    """Return the folder of the small genre model."""
    return str(files("tonearm.demo") / "models" / "genre")


def tag_model_path() -> str:
    """Return the folder of the small multi-label tagger."""
    return str(files("tonearm.demo") / "models" / "tags")


@functools.cache
def revisions() -> frozenset[str]:
    """Return the revisions of both small models, by which they are known wherever their folders lie."""
    return frozenset(describe_checkpoint(path).revision for path in models().values())
