"""Models that are known by name once ``tonearm models add NAME`` has put them into the cache.

::

    ~/.cache/tonearm/models/added/musicnn/config.json  preprocessor_config.json  model.safetensors  LICENSE  NOTICE
"""

from __future__ import annotations

from pathlib import Path

from tonearm.errors import CheckpointError
from tonearm.surroundings import cache_folder, user_cache

NAMES = ("musicnn", "musicnn-msd")


def is_named(source: str) -> bool:
    """Return whether ``source`` is the name of such a model; a folder of that name takes precedence."""
    return source in NAMES and not Path(source).is_dir()


def place_of(name: str) -> Path:
    """Return the folder that a model of this name is put into."""
    return _below(cache_folder(), name)


def find_added(name: str) -> Path | None:
    """Return the folder of a model if it was added."""
    usual = user_cache()
    # The user's own cache may be read-only, so that another folder is written to, and still hold the model.
    places = [place_of(name), *([_below(usual, name)] if usual is not None else [])]
    return next((place for place in places if (place / "config.json").is_file()), None)


def folder_of(name: str) -> Path:
    """Return the folder of a model that was added.

    Raises:
        CheckpointError: it was not added; the message has the command for it.
    """
    folder = find_added(name)
    if folder is None:
        raise CheckpointError(
            f"{name} is not added here: `tonearm models add {name}` "
            f"(`tonearm models add {name} --wheel FILE` where there is no network)"
        )
    return folder


def _below(cache: Path, name: str) -> Path:
    return cache / "models" / "added" / name
