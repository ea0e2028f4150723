"""Labelled tracks: where a collection keeps its labels, its groups and its splits, read as one list.

A *field* says where one of the three stands: ``folder`` (the name of the folder that holds the file), ``name:REGEX``
(the first group of a match in the path below the source), or the name of a column of a table or data set.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tonearm.errors import SourceError
from tonearm.sources import hub_datasets
from tonearm.sources.listing import list_tracks
from tonearm.sources.registry import source_of
from tonearm.sources.source import LabelledRows
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.uris import is_local, local_path, shown

FOLDER, NAME = "folder", "name:"
SEPARATORS = re.compile(r"\s*[;|]\s*")
NUM_NAMED = 3


@dataclasses.dataclass(frozen=True)
class LabelledTrack:
    """One track and what its collection says of it.

    Attributes:
        labels: None where the collection says nothing; ``()`` where it says that there are none.
        split: the value of the field that names the split.
        other_split: the value of a second such field, for a comparison.
        source: where it comes from, which may give its label away.
        path: the file's name before a data set took its bytes in.
    """

    ref: TrackRef
    labels: tuple[str, ...] | None
    group: str | None = None
    split: str | None = None
    source: str | None = None
    path: str | None = None
    other_split: str | None = None

    @property
    def name(self) -> str:
        """The name of its file, also where a data set has taken in the file's bytes."""
        return posixpath.basename(self.path or _plain(self.ref.uri))


@dataclasses.dataclass(frozen=True)
class LabelledListing:
    """What a source says of its tracks.

    Attributes:
        tracks: in the order of the source.
        label_by: the field that the labels were taken from.
        is_multi: whether a track may have several labels, or none.
    """

    tracks: tuple[LabelledTrack, ...]
    label_by: str
    is_multi: bool

    @property
    def counts(self) -> Counter[str]:
        """How many tracks have each label."""
        return Counter(label for track in self.tracks for label in track.labels or ())


def list_labelled(
    source: str,
    *,
    label_by: str | None = None,
    group_by: str | None = None,
    split_by: str | None = None,
    source_by: str | None = None,
    other_split_by: str | None = None,
) -> LabelledListing:
    """Return the tracks of ``source`` with their labels.

    Args:
        source: anything that ``sources.list_tracks`` reads.
        label_by: a field; by default the folders' names, the only ClassLabel, or a column named label, genre or tags.
        group_by: a field; tracks of one group (an artist, a recording) belong on one side of a split.
        split_by: a field whose values name the splits.
        source_by: a field with where a track comes from, which may give its label away.
        other_split_by: a second field whose values name splits.

    Raises:
        SourceError: the source is missing, or has no such column.
    """
    given = (label_by, group_by, split_by, source_by, other_split_by)
    fields = [field for field in dict.fromkeys(given) if field is not None]
    columns = [field for field in fields if field != FOLDER and not field.startswith(NAME)]
    for field in fields:
        _compile(field)
    labelled = source_of(source).labelled(source, label_by, columns)
    if columns and labelled is None:
        raise SourceError(
            f"{shown(source)} has no column {columns[0]}: it is a folder of files; expected 'folder', 'name:REGEX' "
            "or a table with that column"
        )
    if labelled is None:
        labelled = LabelledRows(((ref, {}) for ref in list_tracks([source])), label_by or FOLDER)
    rows, label_by = labelled
    root = _root(source)
    tracks, is_multi = [], False
    for ref, row in rows:
        value = _value(label_by, ref, row, root)
        is_list = isinstance(value, list | tuple) or (isinstance(value, str) and bool(SEPARATORS.search(value)))
        is_multi = is_multi or is_list
        tracks.append(
            LabelledTrack(
                ref,
                _labels(value),
                _text(_value(group_by, ref, row, root)) if group_by else None,
                _text(_value(split_by, ref, row, root)) if split_by else None,
                _text(_value(source_by, ref, row, root)) if source_by else None,
                row.get(hub_datasets.PATH),
                _text(_value(other_split_by, ref, row, root)) if other_split_by else None,
            )
        )
    return LabelledListing(tuple(tracks), label_by, is_multi)


def _compile(field: str) -> re.Pattern[str] | None:
    if not field.startswith(NAME):
        return None
    try:
        pattern = re.compile(field.removeprefix(NAME))
    except re.error as error:
        raise SourceError(f"got {field}, which is not a regular expression ({error})") from None
    if not pattern.groups:
        raise SourceError(f"got {field}, expected a group in parentheses that takes the value, as in 'name:^(\\d)-'")
    return pattern


def _value(field: str, ref: TrackRef, row: Mapping[str, Any], root: str) -> object:
    if field == FOLDER:
        return posixpath.basename(posixpath.dirname(row.get(hub_datasets.PATH) or _plain(ref.uri))) or None
    pattern = _compile(field)
    if pattern is None:
        return row.get(field)
    path = row.get(hub_datasets.PATH) or _plain(ref.uri)
    below = path.removeprefix(root).lstrip("/") if path.startswith(root) else path
    match = pattern.search(below) or pattern.search(posixpath.basename(below))
    return match.group(1) if match else None


def _plain(uri: str) -> str:
    return local_path(uri) if is_local(uri) else uri


def _root(source: str) -> str:
    if is_local(source):
        path = local_path(source)
        return path if os.path.isdir(path) else os.path.dirname(path)
    return source.rstrip("/")


def _text(value: object) -> str | None:
    if value is None or value != value:
        return None
    text = str(value).strip()
    return text or None


def _labels(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(text for item in value if (text := _text(item)) is not None))
    text = _text(value)
    return None if text is None else tuple(dict.fromkeys(part for part in SEPARATORS.split(text) if part))
