"""Files to list, and what listing them gives."""

from __future__ import annotations

import os
from pathlib import Path

from tonearm.sources.listing import list_tracks
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.uris import local_path


def make(folder: Path, *names: str) -> Path:
    """Write a file of each name, relative to ``folder``, that holds its name; return the folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def listed(*sources: str | Path, **options: int) -> list[TrackRef]:
    """Return the tracks of the sources."""
    return list(list_tracks([str(source) for source in sources], **options))


def names(refs: list[TrackRef], folder: Path) -> list[str]:
    """Return the paths of local tracks relative to ``folder``."""
    return [os.path.relpath(local_path(ref.uri), folder) for ref in refs]
