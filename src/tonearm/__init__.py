"""tonearm labels music libraries: one row per track with its genre, tags, embeddings and a timeline."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tonearm.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the clients when they are asked for: ``import tonearm`` costs nothing."""
    if name in ("AsyncClient", "Client"):
        return getattr(importlib.import_module("tonearm.client"), name)
    raise AttributeError(f"module 'tonearm' has no attribute {name!r}")
