"""One Audacity label file per track: the genres and tags of its timeline.

Source: https://manual.audacityteam.org/man/importing_and_exporting_labels.html (start, tab, end, tab, label; seconds).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tonearm.exports.exporter import ExportRequest, Written, check_score
from tonearm.exports.output import write_texts
from tonearm.heads import Head
from tonearm.runs.places import KEY
from tonearm.runs.rows import track_rows
from tonearm.runs.rows.silent import SILENT
from tonearm.storage.filenames import file_name, track_name

TAG_SCORE = 0.5
# Rows with their timeline may have thousands of windows each.
BATCH_ROWS = 128
# Window edges are sample offsets over a rate: touching ones may differ by less than a millisecond.
TOUCH_S = 1e-3


class Label(NamedTuple):
    """A stretch of a track, in seconds, and its name."""

    start_s: float
    end_s: float
    text: str


@dataclasses.dataclass(frozen=True)
class Audacity:
    """A folder of label files, one per track.

    Attributes:
        min_score: leave out tags that score less; 0.5 without it.
    """

    endings: ClassVar[tuple[str, ...]] = ()
    is_folder: ClassVar[bool] = True

    min_score: float | None = None

    def __post_init__(self) -> None:
        check_score(self.min_score)

    def write(self, request: ExportRequest) -> Written:
        """Write the label files below ``request.output``.

        A file is named as its track; tracks whose names are alike, in whatever case, also have their key in the name. A
        track without any label has no file.
        """
        # A pass of its own, over names alone: files are written as rows come, and a name once written cannot change.
        doubled = _doubled_names(request)
        threshold, num_files = TAG_SCORE if self.min_score is None else self.min_score, 0
        others = [(head, head.windows) for head in request.rows.heads if head.windows is not None]
        columns = [KEY, "uri", "windows", "silent", "duration_s", *(column for _, column in others)]
        for batch in request.batches(columns, only_ok=True, batch_rows=BATCH_ROWS):
            texts = {}
            names = [_name(uri) for uri in batch["uri"].to_pylist()]
            clashes = np.isin(_digests(names), doubled)
            for name, clash, row in zip(names, clashes, batch.to_pylist(), strict=True):
                if row["silent"]:
                    labels = [Label(0.0, row["duration_s"] or 0.0, SILENT)]
                else:
                    labels = track_labels(row["windows"] or (), threshold)
                    for head, column in others:
                        labels += head_labels(head, row[column] or (), threshold)
                if labels:
                    lines = (f"{label.start_s:.6f}\t{label.end_s:.6f}\t{label.text}\n" for label in labels)
                    # Keys are signed; as unsigned hex each has the same sixteen digits and no minus sign.
                    suffix = f" [{row[KEY] & (2**64 - 1):016x}]" if clash else ""
                    texts[f"{name}{suffix}.txt"] = "".join(lines)
            write_texts(request.output, texts)
            num_files += len(texts)
        return Written(num_files, num_files)


def track_labels(windows: Sequence[dict[str, Any]], threshold: float) -> list[Label]:
    """Return the labels of one timeline by start: genres, which never overlap, then tags from ``threshold`` on.

    Neighbouring windows of the same genre, or with the same tag, become one label. Stretches that no window covers stay
    without one. Where a window of another genre overlaps the one before (the last is shifted back), it gives way.

    Args:
        windows: rows of ``schema.WINDOW``.
    """
    ordered = sorted(windows, key=lambda window: window["start_s"])
    genres: list[Label] = []
    for label in _merged((window, window["genre"]) for window in ordered if window["genre"]):
        start_s = max(label.start_s, genres[-1].end_s) if genres else label.start_s
        if start_s < label.end_s:
            genres.append(label._replace(start_s=start_s))
    tagged: dict[str, list[dict[str, Any]]] = {}
    for window in ordered:
        for tag in window["tags"] or ():
            if (tag["score"] or 0.0) >= threshold:
                tagged.setdefault(tag["label"], []).append(window)
    tags = [label for text, covered in tagged.items() for label in _merged((window, text) for window in covered)]
    return sorted(genres + tags, key=lambda label: (label.start_s, label not in genres, label.text))


def head_labels(head: Head, windows: Sequence[dict[str, Any]], threshold: float) -> list[Label]:
    """Return the labels of a head's own timeline, as ``track_labels`` does, each as ``NAME: label``.

    Args:
        windows: rows of ``schema.LABEL_WINDOW`` or ``schema.TAGS_WINDOW``.
    """
    spans = [{"start_s": window["start_s"], "end_s": window["end_s"]} for window in windows]
    entries = [
        {**span, "genre": window.get("label"), "tags": window.get("tags")}
        for span, window in zip(spans, windows, strict=True)
    ]
    return [label._replace(text=f"{head.name}: {label.text}") for label in track_labels(entries, threshold)]


def _merged(named: Iterable[tuple[dict[str, Any], str]]) -> Iterator[Label]:
    current: Label | None = None
    for window, name in named:
        # A tab or line break in a label would end its field in the file.
        text = " ".join(name.split())
        if current and current.text == text and window["start_s"] <= current.end_s + TOUCH_S:
            current = current._replace(end_s=max(current.end_s, window["end_s"]))
            continue
        if current:
            yield current
        current = Label(window["start_s"], window["end_s"], text)
    if current:
        yield current


def _name(uri: str) -> str:
    return file_name(track_name(uri))


def _digests(names: Iterable[str]) -> NDArray[np.uint64]:
    # Two names that differ only in case are one file on macOS and Windows.
    return track_rows.digests(name.casefold() for name in names)


def _doubled_names(request: ExportRequest) -> NDArray[np.uint64]:
    parts = [
        _digests(_name(uri) for uri in batch["uri"].to_pylist())
        for batch in request.batches(["uri"], only_ok=True, batch_rows=track_rows.BATCH_ROWS)
    ]
    if not parts:
        return np.empty(0, np.uint64)
    values, counts = np.unique(np.concatenate(parts), return_counts=True)
    return values[counts > 1]
