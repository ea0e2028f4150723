"""The tracks of the report as compact JSON, which its script searches and shows a page at a time.

::

    {"folders": [["s3://records/a/", null], ["/music/b/", "../music/b/"]], "labels": ["jazz", "Guitar", ...],
     "rows": [[folder, name, title, artist, genre, score, seconds, [tag, score, tag, score]], ...],
     "failed": [[folder, name, code, message], ...]}

Names, labels, codes and messages are places in ``labels``; scores are in hundredths; a folder has what stands before
the names of its files in links, or null where they cannot be reached. Of ten thousand tracks that is some 1.3 MB.
"""

from __future__ import annotations

import json
import os
import posixpath
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tonearm.runs.rows import telling_tags
from tonearm.storage import filesystems, uris

# As many as a page can be searched for with every key that is pressed, on a phone too.
NUM_SHOWN = 20_000
NUM_FAILED = 100_000
NUM_TAGS = 5
SHOWN = ["uri", "title", "artist", "genre", "genre_score", "tags", "duration_s"]
FAILED = ["uri", "error_code", "error_message"]


class FirstRows:
    """The rows that sort first by one column (then by URI) among all that were added."""

    def __init__(self, column: str, count: int) -> None:
        self.sort_keys = [(column, "ascending"), *([("uri", "ascending")] if column != "uri" else [])]
        self.count = count
        self.parts: list[pa.Table] = []
        self.num_rows = 0

    def add(self, rows: pa.Table) -> None:
        """Take rows into account."""
        self.parts.append(rows)
        self.num_rows += rows.num_rows
        # Only when there are twice as many: sorting out each batch alone would sort the same rows again and again.
        if self.num_rows > 2 * self.count:
            self._drop()

    def _drop(self) -> None:
        both = pa.concat_tables(self.parts)
        if both.num_rows > self.count:
            both = both.take(pc.select_k_unstable(both, k=self.count, sort_keys=self.sort_keys))
        self.parts, self.num_rows = [both.combine_chunks()], both.num_rows

    def table(self, empty: pa.Schema) -> pa.Table:
        """Return them in their order."""
        if not self.parts:
            return empty.empty_table()
        self._drop()
        return self.parts[0].sort_by(self.sort_keys)


def telling_only(column: pa.ChunkedArray) -> pa.Array:
    """Return the tags of each row that say most of it, those first that say most."""
    lists = column.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    flat = lists.flatten()
    labels = flat.field("label").dictionary_encode()
    weights = np.array([telling_tags.weight(label or "") for label in labels.dictionary.to_pylist()], np.float64)
    scores = pc.fill_null(flat.field("score"), 0.0).to_numpy(zero_copy_only=False)
    places = labels.indices.to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((-scores * weights[places] if len(places) else scores, row))
    starts = np.cumsum(lengths) - lengths
    is_kept = np.arange(len(order)) - np.repeat(starts, lengths) < NUM_TAGS
    num_kept = np.minimum(lengths, NUM_TAGS)
    offsets = pa.array(np.concatenate([[0], np.cumsum(num_kept)]), pa.int32())
    entries = pa.StructArray.from_arrays([flat.field("label"), flat.field("score")], ["label", "score"])
    return pa.ListArray.from_arrays(offsets, entries.take(pa.array(order[is_kept])))


class _Numbers:
    """Texts by the order in which they came; equal ones have one number."""

    def __init__(self) -> None:
        self.known: dict[str | None, int] = {}

    def of(self, text: str | None) -> int:
        return self.known.setdefault(text, len(self.known))


class Links:
    """How the report, at its place, leads to files: by relative paths where both are on this machine."""

    def __init__(self, destination: str) -> None:
        self.folder = uris.local_path(destination) if filesystems.is_local(destination) else None

    def of(self, uri: str) -> str | None:
        """Return what to link to; None for what a browser does not open, or that would need credentials."""
        folder, name = self.folder_and_name(uri)
        prefix = self.prefix(folder)
        return None if prefix is None or not name else prefix + quoted(folder, name)

    def folder_and_name(self, uri: str) -> tuple[str, str]:
        """Return the two parts of a URI as it is shown."""
        folder, slash, name = uris.shown(uri).rpartition("/")
        return folder + slash, name

    def prefix(self, folder: str) -> str | None:
        """Return what stands before the names of a folder's files in links."""
        kind = uris.scheme(folder)
        if kind in ("http", "https"):
            return folder
        if kind != "file" or not folder:
            return None
        # As bytes: a name that is not UTF-8 is quoted as the bytes it has on disk.
        path = os.fsencode(uris.local_path(folder))
        if self.folder is None:
            return f"file://{urllib.parse.quote(path)}/".replace("file:////", "file:///")
        relative = os.path.relpath(path, os.fsencode(self.folder))
        # With a dot in front no name is taken for a scheme.
        return f"./{urllib.parse.quote(relative)}/"


def quoted(folder: str, name: str) -> str:
    """Return a file's name as a link has it; in a URL it is quoted already."""
    return name if uris.SCHEME.match(folder) else urllib.parse.quote(name)


def to_json(tracks: pa.Table, failed: pa.Table, links: Links) -> str:
    """Return the rows as JSON that may stand in a page: there is no ``<`` in it."""
    # Each text once: folders, artists and labels repeat in thousands of rows.
    folders, labels = _Numbers(), _Numbers()
    rows = []
    for row in _rows(tracks):
        folder, name = links.folder_and_name(row["uri"])
        tags = [
            number
            for tag in row["tags"] or ()
            for number in (labels.of(tag["label"]), round(100 * (tag["score"] or 0.0)))
        ]
        score, seconds = row["genre_score"], row["duration_s"]
        rows.append(
            [
                folders.of(folder),
                name,
                row["title"] or 0,
                labels.of(row["artist"]),
                labels.of(row["genre"]),
                None if score is None else round(100 * score),
                None if seconds is None else round(seconds),
                tags,
            ]
        )
    broken = []
    for row in _rows(failed):
        folder, name = links.folder_and_name(row["uri"])
        broken.append([folders.of(folder), name, labels.of(row["error_code"]), labels.of(row["error_message"] or "")])
    values: Mapping[str, Any] = {
        "folders": [[folder, links.prefix(folder or "")] for folder in folders.known],
        "labels": list(labels.known),
        "rows": rows,
        "failed": broken,
    }
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    # A page is UTF-8, and in a script nothing may look like its end.
    return text.encode("utf-8", "backslashreplace").decode().replace("<", "\\u003c").replace("\u2028", "\\u2028")


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1000):
        yield from batch.to_pylist()


def name_of(uri: str) -> str:
    """Return the last part of a URI as it is shown."""
    return posixpath.basename(uris.shown(uri).rstrip("/"))
