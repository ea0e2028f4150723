"""tonearm labels music libraries: one row per track with its genre, tags, embeddings and a timeline."""

from __future__ import annotations

# Nothing of the standard library is imported here: ``tonearm.cli`` first sees to it that it is the standard library's.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tonearm.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the clients when they are asked for: ``import tonearm`` costs nothing."""
    if name in ("AsyncClient", "Client"):
        import importlib

        return getattr(importlib.import_module("tonearm.client"), name)
    raise AttributeError(f"module 'tonearm' has no attribute {name!r}")
