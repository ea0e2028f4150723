"""``report.html``: one file that says what a library holds, how sure the models were and what went wrong.

The numbers come from ``tracks/`` (``report_figures``), the facts of the run from ``runs/<run>.json``. The page holds
its own styles and pictures, loads nothing, and its policy allows no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from tonearm.report import text
from tonearm.report.figures import NUM_EXAMPLES, STRONG_SCORE, GroupFigures, LibraryFigures, gather
from tonearm.report.pictures import duration_histogram, score_histogram
from tonearm.report.rows import Links, name_of, to_json
from tonearm.runs.destination import Destination
from tonearm.runs.rows.silent import SILENT
from tonearm.runs.run_summary import (
    MachineFacts,
    ManifestCounts,
    ModelFacts,
    ResultCounts,
    RunSummary,
    SpeedFacts,
    read_run,
    write_run,
)
from tonearm.storage import filesystems, uris
from tonearm.storage.filenames import track_name
from tonearm.wording import counted

__all__ = [
    "MachineFacts",
    "ManifestCounts",
    "ModelFacts",
    "ResultCounts",
    "RunSummary",
    "SpeedFacts",
    "read_run",
    "render_report",
    "write_report",
    "write_run",
]

NUM_GENRES = 20
NUM_TAGS = 25
NUM_FORMATS = 12
NUM_TRACK_TAGS = 3
# Rows that the page has without its script, and that the script shows at a time.
NUM_AT_A_TIME = 100


def breakable(text: str) -> Markup:
    """Return the text as HTML that may break a line behind a slash, and so needs to break no word."""
    return Markup("/<wbr>").join(escape(part) for part in text.split("/"))


FILTERS = {"breakable": breakable, "number": text.number, "clock": text.clock, "amount": text.amount, "size": text.size}


def write_report(destination: str, run: RunSummary | None = None, figures: LibraryFigures | None = None) -> str:
    """Write ``report.html`` of ``destination`` and return its URL.

    Args:
        destination: a folder or an object-store prefix that ``tonearm tag`` has written.
        run: whose facts to show; the last one of ``runs/`` without it.
        figures: of its rows, as ``gather`` returned them; gathered without it.

    Raises:
        DestinationError: no tracks, a file that cannot be read, or the report cannot be written.
    """
    figures = figures if figures is not None else gather(destination)
    page = render_report(destination, figures, run if run is not None else read_run(destination))
    url = Destination(destination).report
    filesystems.write_text(url, page)
    return url


def render_report(destination: str, figures: LibraryFigures, run: RunSummary) -> str:
    """Return the page; everything in it that came from outside is escaped."""
    loader = jinja2.PackageLoader("tonearm.report", "templates")
    # StrictUndefined: a misspelt name in the template fails in a test instead of leaving a gap in the page.
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(FILTERS)
    css, script = (loader.get_source(environment, name)[0] for name in ("report.css", "report.js"))
    template = environment.get_template("report.html.j2")
    links = Links(destination)
    return template.render(
        destination=uris.shown(destination),
        run=run,
        figures=figures,
        css=Markup(css),
        script=Markup(script),
        # The page's policy allows this one script by its hash, so nothing that a file name smuggles in can run.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        headline=_headline(figures, run),
        heads={"genre": bool(figures.genres), "tags": bool(figures.tags)},
        genres=_genres(figures),
        num_genre_labels=run.genre_model.num_labels if run.genre_model else None,
        score_picture=score_histogram(figures.genre_scores),
        duration_picture=duration_histogram(figures.durations_s),
        tags=_tags(figures),
        num_tags=len(figures.tags),
        others=[_other(name, labels, figures) for name, labels in figures.heads.items() if labels],
        strong_score=STRONG_SCORE,
        formats=_formats(figures),
        failures=_failures(figures, links),
        review=[_track(row, links) for row in figures.least_confident.to_pylist()],
        tracks=[_track(row, links) for row in figures.tracks.slice(0, NUM_AT_A_TIME).to_pylist()],
        num_listed=figures.tracks.num_rows,
        num_failed_listed=figures.failed.num_rows,
        at_a_time=NUM_AT_A_TIME,
        data=Markup(to_json(figures.tracks, figures.failed, links)),
        # Bars are shares of the largest; 1 where all are 0 keeps the division defined.
        most_memory=max(run.speed.peak_bytes.values(), default=1) or 1 if run.speed else 1,
        facts=list(_facts(figures, run)),
        settings=json.dumps(run.settings, indent=1, ensure_ascii=False, default=str) if run.settings else "",
    )


def _headline(figures: LibraryFigures, run: RunSummary) -> list[dict[str, Any]]:
    scored = text.share(figures.scored_s, figures.audio_s)
    entries = [
        _figure("Tracks labelled", text.number(figures.num_ok), _of_all(figures)),
        _figure("Audio", text.amount(figures.audio_s), f"{scored} of it scored"),
    ]
    if figures.genres:
        best, group = max(figures.genres.items(), key=lambda item: (item[1].num_tracks, item[0]))
        share = text.share(group.num_tracks, figures.num_ok)
        note = f"{share} of the tracks, {counted(len(figures.genres), 'genre')} in all"
        entries.append(_figure("Most frequent genre", best, note))
    elif figures.tags:
        best, group = figures.telling_tags()[0]
        note = f"in {text.share(group.num_tracks, figures.num_ok)} of the tracks"
        entries.append(_figure("Most telling tag", best, note))
    if figures.num_error:
        note = f"{text.share(figures.num_error, figures.num_tracks)} of the tracks"
        entries.append(_figure("Failed", text.number(figures.num_error), note, is_bad=True))
    else:
        entries.append(_figure("Failed", "0", "every track has its labels"))
    if run.speed:
        note = f"{run.speed.tracks_per_s:.3g} tracks a second"
        entries.append(_figure("Speed", f"{text.number(run.speed.audio_hours_per_hour)}×", f"real time, {note}"))
    return entries


def _of_all(figures: LibraryFigures) -> str:
    silent = f", {text.number(figures.silent.num_tracks)} of them silent" if figures.silent.num_tracks else ""
    return f"of {text.number(figures.num_tracks)} in the library{silent}"


def _figure(name: str, value: str, note: str, *, is_bad: bool = False) -> dict[str, Any]:
    return {"name": name, "value": value, "note": note, "is_bad": is_bad}


class _Largest(NamedTuple):
    """The largest groups, the sum of the rest (None without one) and how many the rest are."""

    groups: list[tuple[Any, GroupFigures]]
    rest: GroupFigures | None = None
    num_rest: int = 0


def _largest(groups: Mapping[Any, GroupFigures], most: int) -> _Largest:
    ordered = sorted(groups.items(), key=lambda item: (-item[1].num_tracks, -item[1].mean_score, str(item[0])))
    # A rest of one group takes a line as well, so that group is shown by its name.
    if len(ordered) <= most + 1:
        return _Largest(ordered)
    rest = GroupFigures()
    for _, group in ordered[most:]:
        rest.num_tracks += group.num_tracks
        rest.audio_s += group.audio_s
        rest.sum_score += group.sum_score
    return _Largest(ordered[:most], rest, len(ordered) - most)


def _genres(figures: LibraryFigures) -> list[dict[str, Any]]:
    shown, rest, num_rest = _largest(figures.genres, NUM_GENRES)
    entries = [(name, group, False) for name, group in shown]
    entries += [(counted(num_rest, "other genre"), rest, True)] if rest else []
    entries += [(SILENT, figures.silent, True)] if figures.silent.num_tracks else []
    most_tracks = max((group.num_tracks for _, group, _ in entries), default=0) or 1
    most_audio_s = max((group.audio_s for _, group, _ in entries), default=0) or 1
    return [
        {
            "name": name,
            "is_rest": is_rest,
            "tracks": f"{text.number(group.num_tracks)} · {text.share(group.num_tracks, figures.num_ok)}",
            "tracks_bar": group.num_tracks / most_tracks,
            "audio": text.amount(group.audio_s),
            "audio_bar": group.audio_s / most_audio_s,
            # Silent tracks have scores, but of nothing that can be heard.
            "mean_score": "–" if group is figures.silent else f"{group.mean_score:.2f}",
        }
        for name, group, is_rest in entries
    ]


def _tags(figures: LibraryFigures) -> list[dict[str, Any]]:
    shown = figures.telling_tags()[:NUM_TAGS]
    most = max((tag.num_tracks for _, tag in shown), default=0) or 1
    return [
        {
            "name": name,
            "tracks": f"{text.number(tag.num_tracks)} · {text.share(tag.num_tracks, figures.num_ok)}",
            "tracks_bar": tag.num_tracks / most,
            "mean_score": tag.mean_score,
        }
        for name, tag in shown
    ]


def _other(name: str, labels: Mapping[str, GroupFigures], figures: LibraryFigures) -> dict[str, Any]:
    """Return a head besides genre and tags with its most frequent labels."""
    shown = _largest(labels, NUM_TAGS).groups
    most = max((group.num_tracks for _, group in shown), default=0) or 1
    rows = [
        {
            "name": label,
            "tracks": f"{text.number(group.num_tracks)} · {text.share(group.num_tracks, figures.num_ok)}",
            "tracks_bar": group.num_tracks / most,
            "mean_score": group.mean_score,
        }
        for label, group in shown
    ]
    return {"name": name, "rows": rows, "num_labels": len(labels)}


def _formats(figures: LibraryFigures) -> list[dict[str, Any]]:
    shown, rest, num_rest = _largest(figures.formats, NUM_FORMATS)
    entries: list[tuple[Any, GroupFigures, bool]] = [(key, group, False) for key, group in shown]
    entries += [((counted(num_rest, "other"), 0, 0), rest, True)] if rest else []
    return [
        {
            "codec": codec,
            "rate": text.khz(rate),
            "channels": channels or "–",
            "tracks": text.number(group.num_tracks),
            "audio": text.amount(group.audio_s),
            "is_rest": is_rest,
        }
        for (codec, rate, channels), group, is_rest in entries
    ]


def _failures(figures: LibraryFigures, links: Links) -> list[dict[str, Any]]:
    ordered = sorted(figures.failures.items(), key=lambda item: (-item[1].num_tracks, item[0]))
    entries = []
    for code, failure in ordered:
        meaning, advice = text.ADVICE.get(code, text.NO_ADVICE)
        tracks = counted(failure.num_tracks, "track")
        entries.append(
            {
                "code": code,
                "tracks": f"{tracks}, {text.share(failure.num_tracks, figures.num_tracks)}",
                "meaning": meaning,
                "advice": advice,
                "examples": [(uris.shown(uri), links.of(uri), message) for uri, message in failure.examples],
                "num_more": max(0, failure.num_tracks - NUM_EXAMPLES),
            }
        )
    return entries


def _track(row: Mapping[str, Any], links: Links) -> dict[str, Any]:
    name = track_name(row["uri"])
    return {
        "uri": uris.shown(row["uri"]),
        "href": links.of(row["uri"]),
        "title": row["title"] or name,
        "file": name_of(row["uri"]),
        "artist": row["artist"],
        "genre": row["genre"],
        "score": row["genre_score"],
        "tags": [(tag["label"], tag["score"] or 0.0) for tag in (row["tags"] or ())[:NUM_TRACK_TAGS]],
        "duration_s": row["duration_s"],
    }


def _facts(figures: LibraryFigures, run: RunSummary) -> Iterable[tuple[str, str]]:
    yield (
        "Started",
        f"{run.started:%Y-%m-%d %H:%M:%S} UTC, finished {run.finished:%Y-%m-%d %H:%M:%S}, {text.clock(run.wall_s)}",
    )
    listed = f"{counted(run.manifest.num_tracks, 'track')}, {text.size(run.manifest.num_bytes)}"
    if run.manifest.skipped:
        kinds = sorted(run.manifest.skipped.items(), key=lambda item: (-item[1], item[0]))
        skipped = ", ".join(f"{text.number(count)} {kind or 'without extension'}" for kind, count in kinds[:8])
        more = f" and {counted(len(kinds) - 8, 'other kind')}" if len(kinds) > 8 else ""
        listed += f"; skipped as not audio: {skipped}{more}"
    yield "Listed", listed
    yield "Ended", f"{text.number(run.results.num_ok)} ok, {text.number(run.results.num_error)} failed"
    if figures.num_unlisted:
        count = text.number(figures.num_unlisted)
        yield (
            "Tracks no longer listed",
            f"{count}: deleted, renamed or changed since; not counted above",
        )
    if figures.num_outranked:
        yield "Replaced rows", f"{text.number(figures.num_outranked)}: their tracks have a later row; not counted above"
    if figures.num_partial:
        yield (
            "Scored in part",
            counted(figures.num_partial, "track", "has a coverage under 1", "have a coverage under 1"),
        )
    yield "Genre model", _model(run.genre_model, bool(figures.genres))
    yield "Tag model", _model(run.tag_model, bool(figures.tags))
    for name in dict.fromkeys((*run.head_models, *figures.heads)):
        yield f"Model of {name}", _model(run.head_models.get(name), name in figures.heads)
    machine = run.machine
    parts = [machine.cpu, counted(machine.num_cores, "core") if machine.num_cores else ""]
    parts += [f"{text.size(machine.memory_bytes)} of memory" if machine.memory_bytes else "", *machine.gpus]
    parts += [counted(machine.num_nodes, "node")] if machine.num_nodes > 1 else []
    yield "Machine", ", ".join(part for part in parts if part) or "not recorded"


def _model(model: ModelFacts | None, is_there: bool) -> str:
    if model is None:
        return "that of an earlier run; this one left its columns as they are" if is_there else "off"
    window = f"windows of {model.window_s:g} s" if model.window_s else ""
    ran = " ".join(part for part in (model.runtime, model.precision) if part)
    device = f"on {model.device}" if model.device else ""
    parts = (model.name, f"revision {model.revision}", ran, device, model.note, window)
    details = ", ".join(part for part in parts if part)
    if model.fallback is None:
        return details
    return f"{details}; {text.fallback(model.fallback)}, revision {model.fallback.revision}"
