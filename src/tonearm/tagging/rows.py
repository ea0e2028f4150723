"""A track's result as a row of ``schema.TRACKS``, or added to an existing row as further groups of columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tonearm.errors import TrackError
from tonearm.heads import PUBLISHED, TAGS, Head, by_name
from tonearm.models import pooling
from tonearm.runs.rows import schema
from tonearm.tagging.plan import READ, READ_SETTINGS, RunFacts

if TYPE_CHECKING:
    from tonearm.sources.track_ref import TrackRef
    from tonearm.tagging.tagger import TrackResult


def to_row(
    ref: TrackRef,
    outcome: TrackResult | TrackError,
    facts: RunFacts,
    heads: Sequence[Head],
    old: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one row of ``schema.tracks_of(heads)`` as a mapping.

    Args:
        heads: the heads that the outcome is of.
        old: the row that is replaced. Its other columns stay, also those that tonearm does not know.
    """
    row: dict[str, Any] = {name: getattr(ref, name) for name in schema.MANIFEST.names}
    row |= {"tonearm_version": facts.version, "run_id": facts.run_id, "term": facts.term}
    known = schema.heads_of(tuple(old or ()))
    models = {head.model: facts.models.get(head.name) for head in by_name(known.values(), heads).values()}
    done = {READ_SETTINGS: facts.settings.get(READ)} | {head.settings: facts.settings.get(head.name) for head in heads}
    if isinstance(outcome, TrackError):
        failure = {"error_code": outcome.code, "error_message": outcome.message}
        if old is not None and old["status"] == "ok":
            # The row's results are still valid, so its status stays; the next run tries to add the heads again.
            return {**old, **row, **_named(old, facts, known.values()), **failure}
        return {**_unknown(old, known), **row, **models, **done, "status": "error", **failure}
    row |= {"status": "ok"} | result_columns(outcome, heads)
    if old is None or old["status"] != "ok":
        return {**_unknown(old, known), **row, **models, **done}
    return {**old, **_extended(old, row, heads, models), **_named(old, facts, known.values()), **done} | {
        "error_code": None,
        "error_message": None,
    }


def _unknown(old: Mapping[str, Any] | None, known: Mapping[str, Head]) -> dict[str, Any]:
    """Return the columns of a row that tonearm does not know; a person or another program has added them."""
    ours = schema.tracks_of(known.values()).names
    return {name: value for name, value in (old or {}).items() if name not in ours}


def _named(old: Mapping[str, Any], facts: RunFacts, known: Iterable[Head]) -> dict[str, Any]:
    """Return the columns that say with which settings each group of a row was made."""
    # Rows of 0.1.0 do not say. Theirs are the settings that the destination had then, except for groups that were made
    # again since (``adopts`` leaves those out).
    has = {READ: (READ_SETTINGS, True)} | {head.name: (head.settings, old[head.model] is not None) for head in known}
    return {
        column: old[column] or (facts.settings.get(group) if is_there and group in facts.adopts else None)
        for group, (column, is_there) in has.items()
    }


def _extended(
    old: Mapping[str, Any], row: Mapping[str, Any], heads: Sequence[Head], models: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the columns that change in a row when the heads' groups are added."""
    names = [name for head in heads for name in head.columns]
    new = {name: models[name] if name in models else row.get(name) for name in names}
    new |= {name: row[name] for name in ("tonearm_version", "run_id", "term")}
    # ``coverage`` is what every head has scored, so the smaller counts. A track is silent if no head hears a sound.
    new["coverage"] = row["coverage"] if old["coverage"] is None else min(old["coverage"], row["coverage"])
    new["silent"] = row["silent"] and old["silent"] in (None, True)
    named = [head.name for head in heads]
    sharing = [name for name in PUBLISHED if name in named]
    if sharing:
        new["windows"] = row["windows"]
        if any(old[head.model] is not None for name, head in PUBLISHED.items() if name not in sharing):
            before = old["windows"] or []
            both = (row["windows"], before) if TAGS.name in sharing else (before, row["windows"])
            new["windows"] = _timeline(*both)
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


def result_columns(outcome: TrackResult, heads: Iterable[Head]) -> dict[str, Any]:
    """Return the columns of ``schema.tracks_of(heads)`` that a track's result fills.

    Args:
        heads: the heads that the outcome is of.
    """
    row: dict[str, Any] = dataclasses.asdict(outcome.info) | {"coverage": outcome.coverage, "silent": outcome.silent}
    for head in heads:
        result = outcome.heads.get(head.name)
        if result is None:
            continue
        row[head.embedding] = result.embedding
        if isinstance(result, pooling.SingleResult) and head.label and head.score and head.scores:
            scores = [{"label": label, "score": score} for label, score in result.scores]
            row |= {head.label: result.label, head.score: result.score, head.scores: scores}
        if isinstance(result, pooling.MultiResult) and head.tags:
            # Not dataclasses.asdict, whose deep copies took half of a short track's time for its row (bench/NOTES.md).
            row[head.tags] = [
                {"label": tag.label, "score": tag.score, "max_score": tag.max_score, "max_start_s": tag.max_start_s}
                for tag in result.tags
            ]
        if head.windows:
            row[head.windows] = [head_window_row(entry, head) for entry in outcome.windows.get(head.name, ())]
    row["windows"] = [window_row(entry) for entry in outcome.timeline]
    return row


def head_window_row(entry: pooling.HeadWindow, head: Head) -> dict[str, Any]:
    """Return one entry of a head's own timeline as a row of ``schema.LABEL_WINDOW`` or ``schema.TAGS_WINDOW``."""
    labels = [{"label": label, "score": score} for label, score in entry.labels]
    spans = {"start_s": entry.start_s, "end_s": entry.end_s}
    return spans | ({"tags": labels} if head.is_multi else labels[0])


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
    heads: Sequence[Head] = tuple(PUBLISHED.values()),
    old: pa.ChunkedArray | None = None,
) -> pa.Table:
    """Return the tracks, in order, as a table of ``schema.TRACKS`` and the columns of further heads.

    Args:
        heads: the heads that the outcomes are of.
        old: the rows that are replaced, structs of ``schema.TRACKS`` and unknown columns, which come last.
    """
    before = old.to_pylist() if old is not None else [None] * len(refs)
    rows = [
        to_row(ref, outcome, facts, heads, replaced)
        for ref, outcome, replaced in zip(refs, outcomes, before, strict=True)
    ]
    known = by_name(schema.heads_of([field.name for field in old.type] if old is not None else ()).values(), heads)
    fields = list(schema.tracks_of(known.values()))
    if old is not None:
        ours = {field.name for field in fields}
        fields += [field for field in old.type if field.name not in ours]
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=schema.TRACKS.metadata))
