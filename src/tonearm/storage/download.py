"""Folders of an object store, such as a model's, copied to this machine as a whole and kept until they change."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from pathlib import Path

from tonearm.errors import SourceError
from tonearm.storage import filesystems
from tonearm.storage.atomic import first_folder
from tonearm.storage.store_errors import diagnose
from tonearm.storage.uris import shown
from tonearm.surroundings import cache_folder


def local_copy(url: str, patterns: Sequence[str]) -> Path:
    """Return a local folder with those files directly in ``url`` that match a pattern.

    Raises:
        SourceError: the place cannot be read, or no file in it matches.
    """
    place = filesystems.locate(url)
    store, path = place.store, place.path
    try:
        entries = [entry for entry in store.ls(path, detail=True) if entry["type"] == "file"]
    except FileNotFoundError:
        entries = []
    except filesystems.store_errors(place.address.scheme) as error:
        raise SourceError(f"{shown(url)} cannot be read ({diagnose(error).reason})") from None
    objects = {
        entry["name"].rpartition("/")[2]: entry
        for entry in sorted(entries, key=lambda entry: entry["name"])
        if any(fnmatch.fnmatch(entry["name"].rpartition("/")[2], pattern) for pattern in patterns)
    }
    if not objects:
        raise SourceError(f"{shown(url)} holds none of {', '.join(patterns)}")
    # A changed object is another version, and so another copy.
    versions = [
        f"{name} {entry.get('size')} {entry.get('ETag') or entry.get('etag')}" for name, entry in objects.items()
    ]
    digest = hashlib.sha256("\n".join([url.rstrip("/"), *versions]).encode()).hexdigest()[:20]
    base = cache_folder() / "models"
    folder = base / digest / (url.rstrip("/").rpartition("/")[2] or "model")
    if folder.is_dir():
        return folder
    with filesystems.writing(str(base)), first_folder(folder) as partial:
        partial.mkdir()
        for name, entry in objects.items():
            store.get_file(entry["name"], str(partial / name))
    return folder
