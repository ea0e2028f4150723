"""Hugging Face data sets as a source: ``hf://datasets/OWNER/NAME[/CONFIG]``, or a folder of ``save_to_disk``.

Audio is never decoded here (``Audio(decode=False)``). A row that names a file is that file's track. A row that holds
its bytes is ``PLACE#SPLIT/ROW``, where PLACE is the ``hf://`` source or ``arrow+file:///FOLDER``, and ``read_row``
reads it again. Its ETag is the data set's fingerprint, so rows are new tracks once the data set is saved again.
"""

from __future__ import annotations

import functools
import os
import posixpath
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.compute as pc

from tonearm import extras
from tonearm.errors import FetchError, SourceError
from tonearm.sources.local import any_ref
from tonearm.sources.source import LabelledRows, ReadLimits, Shape, only_label
from tonearm.sources.track_ref import TrackRef, make_ref
from tonearm.storage import filesystems
from tonearm.storage.uris import SCHEME, is_local, local_path, scheme, scrubbed, shown, to_unicode

if TYPE_CHECKING:
    import datasets

SAVED, HUB = "arrow+file://", "hf://datasets/"
PATH = "(path)"  # no column's name
WHOLE = "all"  # the split of a data set that has none
BATCH_ROWS = 1000

_loading = threading.Lock()


def is_saved(folder: str) -> bool:
    """Return whether ``folder`` is one that ``save_to_disk`` wrote."""
    names = ("dataset_dict.json", "state.json")
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def check_extra(place: str) -> None:
    """Refuse data sets where the package that reads them is not installed.

    Raises:
        SourceError: with the command that installs it.
    """
    extras.require("datasets", f"the data set {shown(place)}", SourceError)


def is_row(uri: str) -> bool:
    """Return whether ``uri`` is a row that ``read_row`` reads."""
    return uri.startswith((SAVED, HUB)) and "#" in uri


def list_rows(source: str) -> Iterator[TrackRef]:
    """Yield a track for each row, split by split; only lengths and paths are read.

    Raises:
        SourceError: the data set is missing, or has no column of audio.
    """
    for ref, _ in _rows(_place(source)):
        yield ref


def _rows(place: str) -> Iterator[tuple[TrackRef, str | None]]:
    """Yield each row's track, and the path its audio was made from or its column ``file`` or ``path`` says."""
    for split in _loaded(place):
        dataset, column = split.dataset, split.column
        number = 0
        names = [column, *(name for name in ("file", "path") if name in dataset.features and name != column)][:2]
        for batch in dataset.select_columns(names).with_format("arrow").iter(batch_size=BATCH_ROWS):
            audio = batch[column].combine_chunks()
            lengths = pc.binary_length(pc.struct_field(audio, "bytes")).to_pylist()
            paths = pc.struct_field(audio, "path").to_pylist()
            others = batch[names[1]].to_pylist() if len(names) > 1 else [None] * len(paths)
            for length, path, other in zip(lengths, paths, others, strict=True):
                ref = _ref(place, f"{split.name}/{number}", dataset._fingerprint, length, path)
                yield ref, path or (other if isinstance(other, str) else None)
                number += 1


def list_labelled(source: str, columns: Sequence[str]) -> Iterator[tuple[TrackRef, dict[str, Any]]]:
    """Yield a track for each row with the row's ``columns``, its ``split`` and, as ``PATH``, the file it once was.

    Class numbers become their names.

    Raises:
        SourceError: as ``list_rows``, or one of the columns is missing.
    """
    place = _place(source)
    for split in _loaded(place):
        if missing := [name for name in columns if name not in (*split.dataset.features, "split")]:
            known = ", ".join(split.dataset.features)
            raise SourceError(f"{shown(source)} has the columns {known}; expected {', '.join(missing)} too")
    refs = _rows(place)
    for split in _loaded(place):
        dataset = split.dataset
        names = [name for name in columns if name in dataset.features]
        read = {name: _named(dataset.features[name]) for name in names}
        for batch in dataset.select_columns(names).iter(batch_size=BATCH_ROWS) if names else [{}] * len(dataset):
            for index in range(len(batch[names[0]]) if names else 1):
                values = {name: read[name](batch[name][index]) for name in names}
                ref, path = next(refs)
                yield ref, {"split": split.name, PATH: path} | values


def class_columns(source: str) -> list[str]:
    """Return the names of the columns that hold classes: ``ClassLabel``, or a list of them."""
    dataset = _loaded(_place(source))[0].dataset
    kinds = {name: getattr(feature, "feature", feature) for name, feature in dataset.features.items()}
    return [name for name, kind in kinds.items() if isinstance(kind, _library(source).ClassLabel)]


def _named(feature: object) -> Callable[[Any], Any]:
    """Return what turns a stored value into what a person would write: a class's name for its number."""
    kind = getattr(feature, "feature", feature)
    if not hasattr(kind, "int2str"):
        return lambda value: value

    def name(value: object) -> object:
        if isinstance(value, list):
            return [name(item) for item in value]
        return None if not isinstance(value, int) or value < 0 else kind.int2str(value)

    return name


def _place(source: str) -> str:
    return source.rstrip("/") if source.startswith("hf://") else SAVED + urllib.parse.quote(os.fsencode(source))


def _ref(place: str, row: str, fingerprint: str, length: int | None, path: str | None) -> TrackRef:
    if length is None and path:
        if SCHEME.match(path):
            return make_ref(to_unicode(path))
        if place.startswith(SAVED):
            return any_ref(os.path.normpath(posixpath.join(local_path(place), path)))
    return make_ref(f"{place}#{row}", length, fingerprint)


def read_row(ref: TrackRef) -> bytes:
    """Return the bytes in a row.

    Raises:
        FetchError: the data set or the row is gone (not_found), or was saved again since it was listed (changed).
    """
    place, _, row = ref.uri.rpartition("#")
    split, _, number = row.rpartition("/")
    try:
        loaded = next((loaded for loaded in _loaded(place) if loaded.name == split), None)
        if loaded is None:
            raise FetchError(f"{shown(ref.uri)}: no split {split} there", code="not_found")
        if ref.etag is not None and ref.etag != loaded.dataset._fingerprint:
            raise FetchError(f"{shown(ref.uri)} was saved again since it was listed; run again", code="changed")
        audio = loaded.dataset[int(number)][loaded.column]
        if audio is None:
            raise FetchError(f"{shown(ref.uri)} is a row without audio", code="not_found")
        if audio["bytes"] is None and audio["path"]:
            return Path(audio["path"]).read_bytes()
        return bytes(audio["bytes"] or b"")
    except (SourceError, IndexError, ValueError, OSError) as error:
        raise FetchError(f"{shown(ref.uri)} cannot be read ({scrubbed(str(error))})", code="not_found") from None


class _Split(NamedTuple):
    """One split of a data set, its audio undecoded, and the name of its audio column."""

    name: str
    dataset: Any
    column: str


def _loaded(place: str) -> tuple[_Split, ...]:
    written: int | None = None
    if place.startswith(SAVED):
        folder = local_path(place)
        states = [os.path.join(folder, name) for name in ("dataset_dict.json", "state.json")]
        written = max((os.stat(path).st_mtime_ns for path in states if os.path.isfile(path)), default=None)
    return _load(place, written)


def _load(place: str, written: int | None) -> tuple[_Split, ...]:
    # One at a time: the progress bars that `datasets` loads with take each other's lock away, and a data set that
    # several threads ask for is loaded once.
    with _loading:
        return _load_once(place, written)


@functools.lru_cache(maxsize=4)
def _load_once(place: str, written: int | None) -> tuple[_Split, ...]:
    del written  # part of the cache key: a folder that was saved again is loaded again
    datasets = _library(place)
    try:
        loaded = datasets.load_from_disk(local_path(place)) if place.startswith(SAVED) else _load_hub(place)
    except (OSError, ValueError, RuntimeError) as error:
        advice = (
            "check its name and the network, or log in with `hf auth login`"
            if place.startswith("hf://")
            else "save it again"
        )
        raise SourceError(f"the data set {shown(place)} cannot be loaded ({scrubbed(str(error))}); {advice}") from None
    splits = loaded.items() if isinstance(loaded, dict) else [(WHOLE, loaded)]
    ready = []
    for split, dataset in splits:
        names = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Audio)]
        if not names:
            columns = ", ".join(dataset.features)
            raise SourceError(f"the data set {shown(place)} has the columns {columns}; expected one of type Audio")
        column = "audio" if "audio" in names else names[0]
        ready.append(_Split(str(split), dataset.cast_column(column, datasets.Audio(decode=False)), column))
    return tuple(ready)


def _library(place: str) -> ModuleType:
    """Return the package that reads the data set.

    Raises:
        SourceError: it is not installed, with the command that does it.
    """
    try:
        import datasets
    except ImportError:
        check_extra(place)
        raise
    return datasets


def _load_hub(place: str) -> datasets.DatasetDict | datasets.Dataset:
    library = _library(place)
    parts = place.removeprefix(HUB).split("/")
    if not place.startswith(HUB) or len(parts) not in (2, 3) or not all(parts):
        raise SourceError(f"got {shown(place)}, expected hf://datasets/OWNER/NAME or hf://datasets/OWNER/NAME/CONFIG")
    name, _, revision = parts[1].partition("@")
    try:
        return library.load_dataset(f"{parts[0]}/{name}", *parts[2:], revision=revision or None)
    except RuntimeError as error:
        # Older data sets, GTZAN among them, are a loading script, which is code; the hub keeps its output as Parquet.
        if "script" not in str(error) or revision:
            raise
        return library.load_dataset(f"{parts[0]}/{name}", *parts[2:], revision="refs/convert/parquet")


class DataSet:
    """Data sets of the hub, and folders of ``save_to_disk``."""

    schemes = ("hf", "arrow+file")
    has_ranges = False
    shape: Shape = "list"

    def matches(self, source: str) -> bool:
        """Return whether it is an ``hf://`` URL or a folder that holds a data set."""
        return scheme(source) == "hf" or (is_local(source) and is_saved(local_path(source)))

    def list(self, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
        """Yield a track for each row."""
        return list_rows(_given(source))

    def labelled(self, source: str, label_by: str | None, columns: Sequence[str]) -> LabelledRows | None:
        """Return the rows; labels are in ``label_by``, or in the only column of classes."""
        place = _given(source)
        if label_by is None:
            label_by = only_label(class_columns(place), source, "ClassLabel")
            columns = [*columns, label_by]
        return LabelledRows(list_labelled(place, columns), label_by)

    def read(self, ref: TrackRef, limits: ReadLimits) -> bytes:
        """Return the bytes in a row."""
        if not is_row(ref.uri):
            raise FetchError(f"{shown(ref.uri)} is no object; expected {filesystems.KNOWN}", code="not_found")
        return read_row(ref)


def _given(source: str) -> str:
    return local_path(source) if is_local(source) else source
