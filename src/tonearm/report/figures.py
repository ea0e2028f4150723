"""The numbers of the report, gathered from ``tracks/`` batch by batch.

Memory grows by 8 bytes per track (its duration and its genre score); everything else is counts, and the few rows shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tonearm.heads import GENRE, TAGS, Head
from tonearm.report import rows as report_rows
from tonearm.report.rows import FAILED, SHOWN, FirstRows
from tonearm.runs.rows import telling_tags, track_rows
from tonearm.runs.rows.schema import TRACKS
from tonearm.runs.rows.silent import SILENT, silent_as
from tonearm.runs.run_summary import FoundLabels
from tonearm.storage.store_errors import NO_CODE

# A tag counts as present from here on; sigmoid scores of two independent labels may both pass it.
STRONG_SCORE = 0.5
NUM_TO_REVIEW = 20
NUM_EXAMPLES = 3
# Below this the track has stretches that no window covered.
FULL_COVERAGE = 0.999
# What the end of a run and its summary say.
NUM_SAID = 50

TAG = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))
SHOWN_SCHEMA = pa.schema([pa.field(name, TAG if name == "tags" else TRACKS.field(name).type) for name in SHOWN])
FAILED_SCHEMA = pa.schema([TRACKS.field(name) for name in FAILED])
COLUMNS = [
    *dict.fromkeys([*SHOWN, *FAILED]),
    "status",
    "coverage",
    "silent",
    "sample_rate",
    "channels",
    "codec",
    "size_bytes",
]


@dataclasses.dataclass
class GroupFigures:
    """Tracks that share a genre, a tag or a format.

    Attributes:
        num_tracks: how many. For a tag: those with a score of at least ``STRONG_SCORE``.
        num_listed: of a tag, the tracks that have it among their best tags, whatever its score.
        audio_s: their seconds of audio (0 for a tag).
        sum_score: the sum of their scores, over ``num_listed`` for a tag and over ``num_tracks`` otherwise.
    """

    num_tracks: int = 0
    num_listed: int = 0
    audio_s: float = 0.0
    sum_score: float = 0.0

    @property
    def mean_score(self) -> float:
        # Tags: the mean is over all tracks that list the tag, also those in which it scores under STRONG_SCORE.
        count = self.num_listed or self.num_tracks
        return self.sum_score / count if count else 0.0


@dataclasses.dataclass
class FailureFigures:
    """The failed tracks of one code, with the first few as (uri, message)."""

    num_tracks: int = 0
    examples: list[tuple[str, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class LibraryFigures:
    """What the report says about the listed tracks.

    Attributes:
        num_unlisted: tracks that are no longer listed, which nothing else here counts.
        num_outranked: rows that a later one of the same track replaces, which nothing else here counts either.
        num_partial: ok tracks with a ``coverage`` under 0.999.
        silent: ok tracks in which nothing can be heard; those that follow leave them out.
        genres: by genre; empty when the genre head was off.
        tags: by label; empty when the tag head was off.
        heads: by other head that has labels, as ``genres`` or ``tags``.
        formats: by (codec, sample rate in Hz, channels), of all ok tracks.
        failures: by error code.
        durations_s: float32 [all ok tracks with a duration].
        genre_scores: float32 [ok tracks with a genre].
        tracks: the first ok rows by URI, at most 20,000, with the columns ``SHOWN``, of the tags those that say most.
        failed: the failed rows by URI, at most 100,000, with the columns ``FAILED``.
        least_confident: the ok rows with the lowest genre score, at most 20, as ``tracks``.
    """

    num_unlisted: int = 0
    num_outranked: int = 0
    num_ok: int = 0
    num_error: int = 0
    num_partial: int = 0
    num_bytes: int = 0
    audio_s: float = 0.0
    scored_s: float = 0.0
    silent: GroupFigures = dataclasses.field(default_factory=GroupFigures)
    genres: dict[str, GroupFigures] = dataclasses.field(default_factory=dict)
    tags: dict[str, GroupFigures] = dataclasses.field(default_factory=dict)
    heads: dict[str, dict[str, GroupFigures]] = dataclasses.field(default_factory=dict)
    formats: dict[tuple[str, int, int], GroupFigures] = dataclasses.field(default_factory=dict)
    failures: dict[str, FailureFigures] = dataclasses.field(default_factory=dict)
    durations_s: NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.empty(0, np.float32))
    genre_scores: NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.empty(0, np.float32))
    tracks: pa.Table = dataclasses.field(default_factory=SHOWN_SCHEMA.empty_table)
    failed: pa.Table = dataclasses.field(default_factory=FAILED_SCHEMA.empty_table)
    least_confident: pa.Table = dataclasses.field(default_factory=SHOWN_SCHEMA.empty_table)

    @property
    def num_tracks(self) -> int:
        return self.num_ok + self.num_error

    def telling_tags(self) -> list[tuple[str, GroupFigures]]:
        """Return the tags, those first that say most of the library: of many tracks, and not of all music."""
        return sorted(
            self.tags.items(),
            key=lambda item: (
                not item[1].num_tracks,
                telling_tags.weight(item[0]) <= telling_tags.FAINT_WEIGHT,  # however many have it
                -item[1].num_tracks * telling_tags.weight(item[0]),
                -item[1].sum_score * telling_tags.weight(item[0]),
                item[0],
            ),
        )

    def found(self) -> FoundLabels:
        """Return the labels that the end of a run says."""
        genres = sorted(self.genres.items(), key=lambda item: (-item[1].num_tracks, item[0]))
        tags = self.telling_tags()
        strong = [(label, tag.num_tracks) for label, tag in tags if tag.num_tracks]
        says = {label for label in self.tags if telling_tags.weight(label) > telling_tags.FAINT_WEIGHT}
        is_faint = not any(label in says for label, _ in strong)
        # No tag is strong in any track: the faint ones tell more than nothing, with their mean.
        means = [(label, tag.mean_score) for label, tag in tags if label in says] if is_faint else []
        means.sort(key=lambda item: -item[1] * telling_tags.weight(item[0]))
        return FoundLabels(
            genres={label: genre.num_tracks for label, genre in genres[:NUM_SAID]},
            num_genres=len(genres),
            tags={} if is_faint else dict(strong[:NUM_SAID]),
            num_tags=0 if is_faint else len(strong),
            faint_tags={label: round(mean, 3) for label, mean in means[:NUM_SAID]},
            heads={name: _most_frequent(labels) for name, labels in self.heads.items()},
        )


def _most_frequent(labels: dict[str, GroupFigures]) -> dict[str, int]:
    ordered = sorted(labels.items(), key=lambda item: (-item[1].num_tracks, item[0]))
    return {label: figures.num_tracks for label, figures in ordered[:NUM_SAID] if figures.num_tracks}


def gather(destination: str) -> LibraryFigures:
    """Return the figures of the listed tracks of ``destination``.

    Raises:
        DestinationError: no tracks, or a file that cannot be read.
    """
    rows = track_rows.listed_rows(destination)
    heads = [head for head in rows.heads if head.activation != "embedding"]
    labels = [name for head in heads for name in (head.label, head.score, head.tags) if name is not None]
    figures = add_up(track_rows.scan(destination, [*COLUMNS, *labels], rows=rows), heads)
    figures.num_unlisted, figures.num_outranked = rows.num_unlisted, rows.num_outranked
    return figures


def add_up(batches: Iterable[pa.RecordBatch], heads: Sequence[Head] = ()) -> LibraryFigures:
    """Return the figures of all rows of ``batches``, each with ``COLUMNS`` and the labels of ``heads``."""
    figures = LibraryFigures(heads={head.name: {} for head in heads})
    durations: list[NDArray[np.float32]] = []
    scores: list[NDArray[np.float32]] = []
    first, doubtful = FirstRows("uri", report_rows.NUM_SHOWN), FirstRows("genre_score", NUM_TO_REVIEW)
    failed = FirstRows("uri", report_rows.NUM_FAILED)
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        # Failed tracks count too: their files are part of the library. Arrow's sum of nothing is null.
        figures.num_bytes += pc.sum(rows["size_bytes"]).as_py() or 0
        is_ok = pc.equal(rows["status"], "ok")
        _add_failures(figures, failed, rows.filter(pc.invert(is_ok)))
        rows = rows.filter(is_ok)
        _add_ok(figures, rows)
        durations.append(_float32(rows["duration_s"]))
        is_silent = pc.fill_null(rows["silent"], False)
        shown = silent_as(rows, SILENT).select(SHOWN)
        # Cut down here, so that the rows that are held have only the tags that are shown.
        shown = shown.set_column(SHOWN.index("tags"), "tags", report_rows.telling_only(shown["tags"]))
        first.add(shown)
        figures.silent.num_tracks += pc.sum(is_silent).as_py() or 0
        figures.silent.audio_s += pc.sum(rows["duration_s"].filter(is_silent)).as_py() or 0.0
        is_heard = pc.invert(is_silent)
        # A model names some label for silence too; those would distort every count below.
        heard = rows.filter(is_heard)
        for head, groups in [
            (GENRE, figures.genres),
            (TAGS, figures.tags),
            *((h, figures.heads[h.name]) for h in heads),
        ]:
            _add_labels(head, groups, heard)
        scores.append(_float32(heard["genre_score"]))
        doubtful.add(shown.filter(pc.and_(is_heard, pc.is_valid(rows["genre_score"]))))
    figures.durations_s = np.concatenate(durations or [figures.durations_s])
    figures.genre_scores = np.concatenate(scores or [figures.genre_scores])
    figures.tracks, figures.least_confident = first.table(SHOWN_SCHEMA), doubtful.table(SHOWN_SCHEMA)
    figures.failed = failed.table(FAILED_SCHEMA)
    return figures


def _float32(column: pa.ChunkedArray) -> NDArray[np.float32]:
    return column.drop_null().to_numpy().astype(np.float32)


def _add_failures(figures: LibraryFigures, failed: FirstRows, rows: pa.Table) -> None:
    figures.num_error += rows.num_rows
    # Null is no value of value_counts that equal() below would find again.
    codes = pc.fill_null(rows["error_code"], NO_CODE)
    failed.add(rows.select(FAILED).set_column(FAILED.index("error_code"), "error_code", codes))
    for entry in pc.value_counts(codes).to_pylist():
        failure = figures.failures.setdefault(entry["values"], FailureFigures())
        failure.num_tracks += entry["counts"]
        if (missing := NUM_EXAMPLES - len(failure.examples)) > 0:
            some = rows.filter(pc.equal(codes, entry["values"])).slice(0, missing)
            uris, messages = some["uri"].to_pylist(), some["error_message"].to_pylist()
            failure.examples += [(uri, message or "") for uri, message in zip(uris, messages, strict=True)]


def _add_ok(figures: LibraryFigures, rows: pa.Table) -> None:
    figures.num_ok += rows.num_rows
    figures.audio_s += pc.sum(rows["duration_s"]).as_py() or 0.0
    scored_s = pc.multiply(rows["duration_s"], rows["coverage"].cast(pa.float64()))
    figures.scored_s += pc.sum(scored_s).as_py() or 0.0
    figures.num_partial += pc.sum(pc.less(rows["coverage"], FULL_COVERAGE)).as_py() or 0
    by = ["codec", "sample_rate", "channels"]
    for group in rows.group_by(by).aggregate([("uri", "count"), ("duration_s", "sum")]).to_pylist():
        key = (group["codec"] or "unknown", group["sample_rate"] or 0, group["channels"] or 0)
        form = figures.formats.setdefault(key, GroupFigures())
        form.num_tracks += group["uri_count"]
        form.audio_s += group["duration_s_sum"] or 0.0


def _add_labels(head: Head, groups: dict[str, GroupFigures], rows: pa.Table) -> None:
    if head.tags is not None:
        _add_tags(groups, rows[head.tags])
    elif head.label is not None and head.score is not None:
        _add_winners(groups, rows, head.label, head.score)


def _add_winners(groups: dict[str, GroupFigures], rows: pa.Table, label: str, score: str) -> None:
    scored = rows.filter(pc.is_valid(rows[label]))
    sums = [(label, "count"), ("duration_s", "sum"), (score, "sum")]
    for group in scored.group_by(label).aggregate(sums).to_pylist():
        figures = groups.setdefault(group[label], GroupFigures())
        figures.num_tracks += group[f"{label}_count"]
        figures.audio_s += group["duration_s_sum"] or 0.0
        figures.sum_score += group[f"{score}_sum"] or 0.0


def _add_tags(tags: dict[str, GroupFigures], column: pa.ChunkedArray) -> None:
    flat = pc.list_flatten(column.combine_chunks())
    if not len(flat):
        return
    label, score = flat.field("label"), flat.field("score").cast(pa.float64())
    strong = pc.greater_equal(flat.field("score"), STRONG_SCORE).cast(pa.int64())
    entries = pa.table({"label": label, "score": score, "strong": strong})
    sums = [("score", "sum"), ("score", "count"), ("strong", "sum")]
    for group in entries.group_by("label").aggregate(sums).to_pylist():
        tag = tags.setdefault(group["label"], GroupFigures())
        tag.num_tracks += group["strong_sum"] or 0
        tag.num_listed += group["score_count"]
        tag.sum_score += group["score_sum"] or 0.0
