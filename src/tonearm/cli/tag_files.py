"""``tonearm tag FILE`` without ``--out``: what the heads say of single files, in the terminal; nothing is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Unpack, get_type_hints

from rich.console import Console
from rich.table import Table

from tonearm import demo
from tonearm.api import tagger as tagging
from tonearm.api.flags import ScoreFlags
from tonearm.errors import TrackError, UsageError
from tonearm.runs.rows.silent import SILENT
from tonearm.runs.rows.telling_tags import most_telling
from tonearm.storage.uris import shown, visible
from tonearm.web.messages import HeadResult, TrackResult, Window
from tonearm.wording import clock

NUM_GENRES, NUM_TAGS, LEAST_SCORE = 3, 6, 0.1
# Of a long track so many stretches are shown, each with what was said most in it.
NUM_STRETCHES = 8
FAILED = 3


def check_flags(given: Mapping[str, Any]) -> None:
    """Refuse flags that are of a run over a library.

    Raises:
        UsageError: one of them is given.
    """
    for name, value in given.items():
        if value is not None and name not in get_type_hints(ScoreFlags):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"got {flag} without --out, expected a run that it is for; give --out RUN, or leave it out"
            )


def tag_files(sources: Sequence[str], *, as_json: bool = False, **flags: Unpack[ScoreFlags]) -> int:
    """Print what the heads say of each file; return the exit status.

    Raises:
        UsageError: a folder, or models that cannot be used.
    """
    # All of them first: nothing is shown of a command that cannot be carried out.
    for source in sources:
        tagging.one_track(source)
    if flags.get("demo_models"):
        print(demo.NOTICE, file=sys.stderr)
    is_failed = False
    with tagging.Tagger(**flags) as tagger:
        for place, source in enumerate(sources):
            try:
                result = tagger(source)
            except TrackError as error:
                is_failed = True
                print(visible(f"{shown(source)}: {error.code}: {error.message}"), file=sys.stderr)
                continue
            if as_json:
                print(json.dumps({"uri": source, **result.model_dump()}, ensure_ascii=False))
            else:
                print("\n" * bool(place), end="")
                _print(source, result)
    return FAILED if is_failed else 0


def _print(source: str, result: TrackResult) -> None:
    print(visible(shown(source)))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines(result):
        table.add_row(name, visible(text))
    Console(highlight=False, markup=False, emoji=False).print(table)


def lines(result: TrackResult) -> list[tuple[str, str]]:
    """Return what a person wants to know of a ``TrackResult``, with a name for each line."""
    by = " – ".join(part for part in (result.artist, result.title) if part)
    channels = {1: "mono", 2: "stereo"}.get(result.channels, f"{result.channels} channels")
    audio = f"{clock(result.duration_s)}, {result.codec} {result.sample_rate / 1000:g} kHz {channels}"
    scored = "" if result.coverage > 0.995 else f", {result.coverage:.0%} of it scored"
    rows = [("track", by)] if by else []
    rows.append(("audio", audio + scored))
    if result.silent:
        rows.append(("genre", f"{SILENT}: nothing in it is louder than -60 dB of full scale"))
        return rows
    if result.genre is not None:
        others = [f"{genre.label} {genre.score:.2f}" for genre in (result.genre_scores or [])[1:NUM_GENRES]]
        also = f"   ({', '.join(others)})" if others else ""
        rows.append(("genre", f"{result.genre} {result.genre_score:.2f}{also}"))
    if result.tags is not None:
        tags = most_telling([tag.model_dump() for tag in result.tags])[:NUM_TAGS]
        texts = [f"{tag['label']} {tag['score']:.2f}" for tag in tags if tag["score"] >= LEAST_SCORE]
        rows.append(("tags", " · ".join(texts) or f"none scores {LEAST_SCORE:g} or more"))
    rows += [(name, text) for name, head in result.heads.items() if (text := _said(head))]
    stretches = timeline(result.windows)
    for number, (start_s, text) in enumerate(stretches if len(stretches) > 1 else []):
        rows.append(("" if number else "timeline", f"{clock(start_s):>7}  {text}"))
    return rows


def _said(head: HeadResult) -> str:
    """Return what a head besides genre and tags says; nothing of one that only has an embedding."""
    if head.label is not None:
        return f"{head.label} {head.score:.2f}"
    texts = [f"{tag.label} {tag.score:.2f}" for tag in head.tags or () if tag.score >= LEAST_SCORE]
    return " · ".join(texts[:NUM_TAGS])


def timeline(windows: Sequence[Window]) -> list[tuple[float, str]]:
    """Return at most ``NUM_STRETCHES`` stretches: where each starts, and its genre and its most telling tags."""
    per_stretch = -(-len(windows) // NUM_STRETCHES)
    stretches = []
    for first in range(0, len(windows), max(1, per_stretch)):
        part = windows[first : first + per_stretch]
        genres = [window.genre for window in part if window.genre is not None]
        tags: dict[str, float] = {}
        for window in part:
            for tag in window.tags:
                tags[tag.label] = max(tag.score, tags.get(tag.label, 0.0))
        scored = [{"label": label, "score": score} for label, score in tags.items()]
        telling = [str(tag["label"]) for tag in most_telling(scored) if tag["score"] >= LEAST_SCORE][:2]
        names = [max(genres, key=genres.count)] if genres else []
        stretches.append((part[0].start_s, ", ".join([*names, *telling])))
    return stretches
