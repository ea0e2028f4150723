"""A track's result as a row of ``schema.TRACKS``, and a row that gets further groups of columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tonearm.errors import TrackError
from tonearm.models import pooling
from tonearm.runs.rows import schema
from tonearm.tagging.plan import COLUMNS, READ, SETTINGS_COLUMNS, RunFacts

if TYPE_CHECKING:
    from tonearm.sources.track_ref import TrackRef
    from tonearm.tagging.tagger import TrackResult


def to_row(
    ref: TrackRef,
    outcome: TrackResult | TrackError,
    facts: RunFacts,
    heads: Sequence[str],
    old: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one row of ``schema.TRACKS`` as a mapping.

    Args:
        heads: those that the outcome is of.
        old: the row that the new one replaces, whose other columns it keeps, unknown ones included.
    """
    row: dict[str, Any] = {name: getattr(ref, name) for name in schema.MANIFEST.names}
    row |= {"tonearm_version": facts.version, "run_id": facts.run_id, "term": facts.term}
    models = {"genre_model": facts.genre_model, "tag_model": facts.tag_model}
    done = {column: facts.settings.get(group) for group, column in SETTINGS_COLUMNS.items() if group in (READ, *heads)}
    if isinstance(outcome, TrackError):
        failure = {"error_code": outcome.code, "error_message": outcome.message}
        if old is not None and old["status"] == "ok":
            # What the row says is as true as before; the next run tries again to add to it.
            return {**old, **row, **_named(old, facts), **failure}
        return {**_unknown(old), **row, **models, **done, "status": "error", **failure}
    row |= {"status": "ok"} | result_columns(outcome)
    if old is None or old["status"] != "ok":
        return {**_unknown(old), **row, **models, **done}
    return {**old, **_extended(old, row, heads, models), **_named(old, facts), **done, "error_code": None} | {
        "error_message": None
    }


def _unknown(old: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the columns of a row that tonearm knows nothing of; they are somebody's."""
    return {name: value for name, value in (old or {}).items() if name not in schema.TRACKS.names}


def _named(old: Mapping[str, Any], facts: RunFacts) -> dict[str, Any]:
    """Return by which settings a row has its groups.

    Rows of 0.1.0 do not say, and have what their destination had then: not what has been made again since.
    """
    has = {READ: True, "genre": old["genre_model"] is not None, "tags": old["tag_model"] is not None}
    return {
        column: old[column] or (facts.settings.get(group) if has[group] and group in facts.adopts else None)
        for group, column in SETTINGS_COLUMNS.items()
    }


def _extended(
    old: Mapping[str, Any], row: Mapping[str, Any], heads: Sequence[str], models: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a row that has some groups gets with the heads' new ones."""
    names = [name for head in heads for name in COLUMNS[head]]
    new = {name: models[name] if name in models else row.get(name) for name in names}
    new |= {name: row[name] for name in ("tonearm_version", "run_id", "term")}
    # Every head has scored what the one that scored least has.
    new["coverage"] = row["coverage"] if old["coverage"] is None else min(old["coverage"], row["coverage"])
    new["silent"] = row["silent"]
    others = [head for head in COLUMNS if head not in heads and old[COLUMNS[head][-1]] is not None]
    new["windows"] = row["windows"]
    if others:
        before = old["windows"] or []
        new["windows"] = _timeline(row["windows"], before) if "tags" in heads else _timeline(before, row["windows"])
    return new


def _timeline(tags: Sequence[Mapping[str, Any]], genre: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the tags' windows, each with the genre of the nearest of ``genre``; see ``pooling.timeline``."""
    if not tags or not genre:
        return [dict(entry) for entry in tags or genre]
    nearest = pooling.nearest_windows(_spans(tags), _spans(genre))
    return [
        {**entry, "genre": genre[place]["genre"], "genre_score": genre[place]["genre_score"]}
        for entry, place in zip(tags, nearest, strict=True)
    ]


def _spans(entries: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(entry["start_s"], entry["end_s"]) for entry in entries]


def result_columns(outcome: TrackResult) -> dict[str, Any]:
    """Return the columns of ``schema.TRACKS`` that a track's result fills."""
    row: dict[str, Any] = dataclasses.asdict(outcome.info) | {"coverage": outcome.coverage, "silent": outcome.silent}
    if (genre := outcome.genre) is not None:
        row |= {
            "genre": genre.label,
            "genre_score": genre.score,
            "genre_scores": [{"label": label, "score": score} for label, score in genre.scores],
            "genre_embedding": genre.embedding,
        }
    if (tags := outcome.tags) is not None:
        # Not dataclasses.asdict, which copies deeply: it took half of the time that a row of a short track takes.
        entries = [
            {"label": tag.label, "score": tag.score, "max_score": tag.max_score, "max_start_s": tag.max_start_s}
            for tag in tags.tags
        ]
        row |= {"tags": entries, "tag_embedding": tags.embedding}
    row["windows"] = [window_row(entry) for entry in outcome.timeline]
    return row


def window_row(entry: pooling.TimelineRow) -> dict[str, Any]:
    """Return one entry of the timeline as a row of ``schema.WINDOW``."""
    tags = [{"label": label, "score": score} for label, score in entry.tags]
    return {
        "start_s": entry.start_s,
        "end_s": entry.end_s,
        "genre": entry.genre,
        "genre_score": entry.genre_score,
        "tags": tags,
    }


def to_table(
    refs: Sequence[TrackRef],
    outcomes: Sequence[TrackResult | TrackError],
    facts: RunFacts,
    heads: Sequence[str] = tuple(COLUMNS),
    old: pa.ChunkedArray | None = None,
) -> pa.Table:
    """Return the tracks as a table of ``schema.TRACKS``, in order.

    Args:
        heads: those that the outcomes are of.
        old: the rows that the new ones replace, structs of ``schema.TRACKS`` and unknown columns, which come after.
    """
    before = old.to_pylist() if old is not None else [None] * len(refs)
    rows = [
        to_row(ref, outcome, facts, heads, replaced)
        for ref, outcome, replaced in zip(refs, outcomes, before, strict=True)
    ]
    fields = list(schema.TRACKS)
    if old is not None:
        fields += [field for field in old.type if field.name not in schema.TRACKS.names]
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=schema.TRACKS.metadata))
