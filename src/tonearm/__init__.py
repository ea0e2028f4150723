"""tonearm labels music libraries: one row per track with its genre, tags, embeddings and a timeline.

>>> import tonearm
>>> tonearm.tag_file("song.mp3").genre  # doctest: +SKIP
>>> library = tonearm.tag("~/Music", out="labels")  # doctest: +SKIP
>>> library.tracks(columns=["uri", "genre"], where="duration_s > 60").to_pandas()  # doctest: +SKIP
"""

from __future__ import annotations

# Nothing of the standard library is imported here: ``tonearm.cli`` first sees to it that it is the standard library's.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from tonearm.api.library import Library, open
    from tonearm.api.planning import plan
    from tonearm.api.tagger import Tagger, tag_file
    from tonearm.api.tagging import tag
    from tonearm.api.training import distill, evaluate, train
    from tonearm.client import AsyncClient, Client
    from tonearm.errors import (
        ApiError,
        CheckpointError,
        ClusterError,
        DecodeError,
        DestinationError,
        FetchError,
        Incomplete,
        PluginError,
        RequestError,
        ScoreError,
        SettingsError,
        SourceError,
        Stopped,
        TonearmError,
        TooManyFailures,
        TrackError,
        TrainingError,
        UsageError,
    )

__version__ = "0.1.0"
__all__ = [
    "ApiError",
    "AsyncClient",
    "CheckpointError",
    "Client",
    "ClusterError",
    "DecodeError",
    "DestinationError",
    "FetchError",
    "Incomplete",
    "Library",
    "PluginError",
    "RequestError",
    "ScoreError",
    "SettingsError",
    "SourceError",
    "Stopped",
    "Tagger",
    "TonearmError",
    "TooManyFailures",
    "TrackError",
    "TrainingError",
    "UsageError",
    "__version__",
    "distill",
    "evaluate",
    "open",
    "plan",
    "tag",
    "tag_file",
    "train",
]
# Where a name comes from; what is not here is an error class.
_HOMES = {
    "AsyncClient": "client",
    "Client": "client",
    "Library": "api.library",
    "Tagger": "api.tagger",
    "distill": "api.training",
    "evaluate": "api.training",
    "open": "api.library",
    "plan": "api.planning",
    "tag": "api.tagging",
    "tag_file": "api.tagger",
    "train": "api.training",
}


def __getattr__(name: str) -> object:
    """Load a name when it is asked for: ``import tonearm`` costs nothing."""
    if name in __all__:
        import importlib

        value: object = getattr(importlib.import_module(f"tonearm.{_HOMES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'tonearm' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names too that are not loaded yet, for a prompt's completion."""
    return sorted({*globals(), *__all__})
