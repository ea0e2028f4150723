"""Hugging Face data sets as a source: ``hf://datasets/OWNER/NAME[/CONFIG]``, or a folder of ``save_to_disk``.

Audio is never decoded here (``Audio(decode=False)``). A row that points at a file is that file's track; a row with its
bytes inside becomes ``SOURCE#SPLIT/ROW``, which ``read_row`` reads again.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

from tonearm.errors import FetchError, SourceError
from tonearm.library import stores
from tonearm.library.sources import TrackRef, local_path, local_ref, make_ref

SAVED = "dataset://"


def is_saved_dataset(path: str) -> bool:
    """Return whether ``path`` is a folder that ``save_to_disk`` wrote."""
    return any(os.path.isfile(os.path.join(path, name)) for name in ("dataset_dict.json", "state.json"))


def list_rows(source: str) -> Iterator[TrackRef]:
    """Yield a track a row, split by split.

    Raises:
        SourceError: the data set is missing or has no audio column.
    """
    place = source if source.startswith("hf://") else SAVED + os.path.abspath(local_path(source))
    for split, dataset, column in _load(place):
        version = getattr(dataset, "_fingerprint", None)
        for number in range(len(dataset)):
            audio = dataset[number][column]
            path, data = audio.get("path"), audio.get("bytes")
            if data is None and path and os.path.isfile(path):
                yield local_ref(os.path.abspath(path))
            elif data is None and path and stores.SCHEME.match(path):
                yield make_ref(path)
            else:
                yield make_ref(f"{place}#{split}/{number}", len(data or b""), version)


def is_row(uri: str) -> bool:
    """Return whether ``uri`` is a row that ``read_row`` reads."""
    return uri.startswith(SAVED) or (uri.startswith("hf://datasets/") and "#" in uri)


def read_row(uri: str) -> bytes:
    """Return the bytes inside a row.

    Raises:
        FetchError: the data set or the row is gone.
    """
    place, _, row = uri.rpartition("#")
    split, _, number = row.rpartition("/")
    try:
        for name, dataset, column in _load(place):
            if name == split:
                return dataset[int(number)][column]["bytes"] or b""
    except (SourceError, IndexError, ValueError, OSError) as error:
        raise FetchError(f"{uri} cannot be read ({stores.reason(error)})", code="not_found") from None
    raise FetchError(f"{place} has no split {split}", code="not_found")


@functools.lru_cache(maxsize=4)
def _load(place: str) -> list[tuple[str, Any, str]]:
    try:
        import datasets
    except ImportError:
        raise SourceError(f"{place}: data sets need a package; run pip install 'tonearm[datasets]'") from None
    try:
        if place.startswith(SAVED):
            loaded = datasets.load_from_disk(place.removeprefix(SAVED))
        else:
            owner, name, *config = place.removeprefix("hf://datasets/").strip("/").split("/")
            loaded = datasets.load_dataset(f"{owner}/{name}", *config)
    except (OSError, ValueError, ConnectionError) as error:
        raise SourceError(f"the data set {place} cannot be loaded ({stores.reason(error)})") from None
    splits = loaded.items() if isinstance(loaded, datasets.DatasetDict) else [("all", loaded)]
    found = []
    for split, dataset in splits:
        columns = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Audio)]
        if not columns:
            raise SourceError(f"{place} has the columns {', '.join(dataset.features)}; expected one of type Audio")
        found.append((str(split), dataset.cast_column(columns[0], datasets.Audio(decode=False)), columns[0]))
    return found


