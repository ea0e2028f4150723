"""The parts of the site that are made from the code: commands, settings, columns, error codes, public names."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa

import tonearm
from tonearm import error_codes, errors
from tonearm.cli import reference
from tonearm.runs.rows.schema import TRACKS

ROOT = Path(__file__).resolve().parents[2]
# What a column of a row is. The schema has the names and types; a column without words here stops the build.
COLUMNS = {
    "track_key": "the track: a number made of its URI and version",
    "uri": "where the audio is",
    "etag": "its version, as the store says",
    "size_bytes": "its size",
    "modified": "when it was last changed",
    "status": "`ok` or `error`",
    "error_code": "why there are no labels: [codes](troubleshooting.md#codes-of-a-track)",
    "error_message": "what exactly happened",
    "duration_s": "the decoded length",
    "coverage": "the share of the duration that every head has scored, of damaged files too: [formats](formats.md)",
    "sample_rate": "of the file, in Hz",
    "channels": "of the file",
    "codec": "of the file, as FFmpeg names it",
    "title": "from the file's own tags",
    "artist": "from the file's own tags",
    "album": "from the file's own tags",
    "genre": "the best genre",
    "genre_score": "its score",
    "genre_scores": "every genre: the mean over the windows of their softmax",
    "tags": "the 20 best tags: mean sigmoid, the highest one, and the start of the window that has it",
    "windows": "the timeline: genre and tags of each window",
    "genre_embedding": "the genre model's pooled hidden state, mean over the windows",
    "tag_embedding": "the same of the tag model; AST's [CLS]",
    "genre_model": "the model and its revision",
    "tag_model": "the model and its revision",
    "tonearm_version": "what wrote the row",
    "run_id": "which run wrote the row: `runs/RUN.json`",
    "term": "which run's row counts: the highest",
    "read_settings": "hash of the settings that the file was read and decoded with",
    "genre_settings": "hash of the settings that made the genre's columns; null where the row lacks them",
    "tag_settings": "the same of the tags' columns",
    "silent": "whether nothing in it is louder than -60 dB of full scale; exports, report and page then name no genre",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def schema() -> str:
    """Return the columns of ``tracks/`` with their types and meanings."""
    return table(
        ["column", "type", ""],
        ([f"`{field.name}`", f"`{_arrow(field.type)}`", COLUMNS[field.name]] for field in TRACKS),
    )


def _arrow(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list<{_arrow(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "{" + ", ".join(field.name for field in kind) + "}"
    return str(kind).replace("[us, tz=UTC]", "")


def track_codes() -> str:
    """Return the codes of failed tracks: what happened, and what to do."""
    rows = ([f"`{code}`", entry.happened or "", entry.advice or ""] for code, entry in error_codes.TRACK.items())
    return table(["code", "what happened", "what to do"], rows)


def request_codes() -> str:
    """Return what a server answers, by code."""
    everything = {**error_codes.REQUEST, **error_codes.TRACK}
    rows = [[f"`{code}`", str(entry.status), entry.hint or "for the operator"] for code, entry in everything.items()]
    return table(["code", "HTTP status", "what a client can do"], sorted(rows, key=lambda row: (row[1], row[0])))


def error_tree() -> str:
    """Return the tree of exceptions, as the docstring of ``tonearm.errors`` draws it."""
    drawing = (errors.__doc__ or "").split("::\n\n", 1)[1].split("\n\nA ``", 1)[0]
    return f"```text\n{textwrap.dedent(drawing)}\n```"


def python() -> str:
    """Return a directive of mkdocstrings for each public name: functions, classes, then the errors."""
    names = [name for name in tonearm.__all__ if not name.startswith("_")]
    raised = [name for name in names if hasattr(errors, name)]
    kinds = sorted(set(names) - set(raised), key=lambda name: (name[0].isupper(), name))
    parts = [f"::: tonearm.{name}\n" for name in kinds]
    options = "    options:\n      members: false\n      show_signature: false\n      heading_level: 4\n"
    parts.append("### Errors\n")
    parts += [f"::: tonearm.{name}\n{options}" for name in raised]
    return "\n".join(parts)


def results() -> str:
    """Return bench/RESULTS.md one level down, without its title."""
    body = (ROOT / "bench" / "RESULTS.md").read_text().split("\n", 1)[1]
    return re.sub(r"^(#+ )", r"#\1", body, flags=re.M).replace("](../docs/", "](")


def contributing() -> str:
    """Return CONTRIBUTING.md, with links from where this page is."""
    return (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "](")


def verbs() -> str:
    """Return every verb with its arguments and options."""
    return reference.verbs_markdown()


def setting_tables() -> str:
    """Return the tables of settings, one level down."""
    return re.sub(r"^(#+ )", r"#\1", reference.settings_markdown(), flags=re.M)


def environment() -> str:
    """Return the table of environment variables."""
    return reference.environment_markdown()


SECTIONS: dict[str, Callable[[], str]] = {
    "schema": schema,
    "verbs": verbs,
    "settings": setting_tables,
    "environment": environment,
    "track-codes": track_codes,
    "request-codes": request_codes,
    "errors": error_tree,
    "python": python,
    "results": results,
    "contributing": contributing,
}
