"""One extended M3U playlist per genre, tag or other head's label, each in the order of the tracks' URIs.

Entries are sorted in runs on disk and merged, so that a tag that nearly every track has costs no memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import json
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from tonearm.exports.audacity import TAG_SCORE
from tonearm.exports.exporter import ExportRequest, Written, check_score, head_by
from tonearm.exports.output import whole_file
from tonearm.heads import Head
from tonearm.runs.rows.silent import SILENT
from tonearm.storage import filesystems
from tonearm.storage.filenames import file_name, track_name

# Entries held before they are sorted and written down: some 20 MB.
RUN_ENTRIES = 50_000


@dataclasses.dataclass(frozen=True)
class Playlists:
    """A folder of playlists.

    Attributes:
        by: which labels get a playlist: ``genre``, ``tag``, or the name of another head.
        min_score: leave out tracks whose genre, or tag, scores less; without it 0.5 for tags and 0 for genres.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    is_folder: ClassVar[bool] = True

    by: str = "genre"
    min_score: float | None = None

    def __post_init__(self) -> None:
        check_score(self.min_score)

    def write(self, request: ExportRequest) -> Written:
        """Write the playlists below ``request.output``; a track counts once, in however many it is."""
        head = head_by(self.by, request.rows.heads)
        head_columns = [name for name in (head.label, head.score, head.tags) if name is not None]
        columns, num_tracks = ["uri", "title", "artist", "duration_s", "silent", *head_columns], 0
        with tempfile.TemporaryDirectory(prefix="tonearm-") as folder, filesystems.writing(folder):
            runs = _Runs(Path(folder))
            for batch in request.batches(columns, only_ok=True):
                for row in batch.to_pylist():
                    labels = self._labels(row, head)
                    num_tracks += bool(labels)
                    for label in labels:
                        runs.add(label, row["uri"], _extinf(row))
            # After all rows: two labels that make one file name are known only then.
            names = _names(runs.labels())
            base = request.output.rstrip("/") or "/"
            for label, name in names.items():
                with whole_file(f"{base}/{name}.m3u8") as file:
                    file.write(f"#EXTM3U\n#PLAYLIST:{_one_line(label)}\n")
                    for uri, extinf in runs.merged(label):
                        file.write(f"{extinf}\n{_location(uri)}\n")
        return Written(num_tracks, len(names))

    def _labels(self, row: dict[str, Any], head: Head) -> list[str]:
        # A model names some genre for silence too; a playlist of it would be wrong.
        if row["silent"]:
            return [SILENT]
        if head.label is not None and head.score is not None:
            label, score = row[head.label], row[head.score] or 0.0
            return [label] if label and score >= (self.min_score or 0.0) else []
        threshold = TAG_SCORE if self.min_score is None else self.min_score
        return [tag["label"] for tag in row[head.tags or ""] or () if (tag["score"] or 0.0) >= threshold]


class _Runs:
    """Sorted runs of entries by label, in files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, list[tuple[str, str]]] = {}
        self.paths: dict[str, list[Path]] = {}
        self.num_entries = self.num_runs = 0

    def add(self, label: str, uri: str, extinf: str) -> None:
        self.entries.setdefault(label, []).append((uri, extinf))
        self.num_entries += 1
        # All labels count together: hundreds of tags, each below a limit of its own, would still fill the memory.
        if self.num_entries >= RUN_ENTRIES:
            self._flush()

    def labels(self) -> list[str]:
        self._flush()
        return sorted(self.paths)

    def merged(self, label: str) -> Iterator[tuple[str, str]]:
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open(encoding="utf-8")) for path in self.paths[label]]
            # JSON keeps line breaks within a URI or title apart from those between entries.
            yield from heapq.merge(*(map(json.loads, file) for file in files))

    def _flush(self) -> None:
        for label, entries in self.entries.items():
            path = self.folder / f"{self.num_runs}.jsonl"
            self.num_runs += 1
            with path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in sorted(entries))
            self.paths.setdefault(label, []).append(path)
        self.entries, self.num_entries = {}, 0


def _names(labels: list[str]) -> dict[str, str]:
    """Return a file name for each label, different in every case-insensitive file system too."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        base = name = file_name(label)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base} ({number})"
        taken.add(name.casefold())
        names[label] = name
    return names


def _extinf(row: dict[str, Any]) -> str:
    duration_s = row["duration_s"]
    title = row["title"] or track_name(row["uri"])
    name = f"{row['artist']} - {title}" if row["artist"] else title
    # -1 is how M3U says that the length is not known; the format has whole seconds.
    return f"#EXTINF:{-1 if duration_s is None else round(duration_s)},{_one_line(name)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _location(uri: str) -> str:
    """Return ``uri`` as a line of a playlist, changed only if it would break the line or read as a comment."""
    if filesystems.is_local(uri) and not uri.startswith("file://"):
        if "\n" in uri or "\r" in uri:
            # A line break would begin another entry, and only a URL can escape it.
            return f"file://{urllib.parse.quote(uri)}"
        # Players take a line that begins with # for a comment.
        return f"./{uri}" if uri.startswith("#") else uri
    return uri.replace("\r", "%0D").replace("\n", "%0A")
