"""The command and its settings as Markdown, for the docs: ``python -m tonearm.cli.reference verbs``.

Also ``settings`` and ``environment``; the functions are ``verbs_markdown()`` and so on.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import typer
from annotated_types import Ge, Gt, Le, Lt
from typer.core import TyperCommand, TyperGroup

from tonearm.api.environment import VARIABLES
from tonearm.cli.help import VerbWithParts, panels
from tonearm.cli.settings_flags import FLAGS, flag_name
from tonearm.heads import FallbackSettings, HeadSettings
from tonearm.settings import (
    AugmentSettings,
    ClusterSettings,
    DecodeSettings,
    DistillSettings,
    FetchSettings,
    LabelSettings,
    ModelSettings,
    ServeSettings,
    TagSettings,
    TrainSettings,
)

# The tables of a file of settings, and whose they are.
SECTIONS: Mapping[str, tuple[type, str]] = {
    "tag": (TagSettings, "One tagging run."),
    "models": (ModelSettings, "Which models score a track, and how. Shared by tagging and serving."),
    "models.heads.NAME": (HeadSettings, 'A further head; `NAME = "MODEL[:KIND]"` in `[models.heads]` is short for it.'),
    "fetch": (FetchSettings, "How objects are read from a store. Shared by all verbs."),
    "decode": (DecodeSettings, "How bytes become a waveform. Shared by all verbs; `[serve]` waits 120 s."),
    "tag.fallback.HEAD": (
        FallbackSettings,
        'A fallback of a head; `HEAD = "MODEL[:THRESHOLD]"` in `[tag.fallback]` is short for it.',
    ),
    "tag.cluster": (ClusterSettings, "How long a run waits for a cluster that may recover."),
    "serve": (ServeSettings, "One server."),
    "train": (TrainSettings, "One training run."),
    "distill": (DistillSettings, "One distillation; its tables `labels` and `augment` have the keys of training's."),
    "train.labels": (LabelSettings, "Where a collection keeps its labels, and how it is split."),
    "train.augment": (AugmentSettings, "What is done to a clip each time it is seen."),
}
NAMES: Mapping[object, str] = {str: "text", bool: "true or false", int: "whole number", float: "number"}
SIGNS: Mapping[type, tuple[str, str]] = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}


def verbs_markdown() -> str:
    """Return a section for each verb: what it does, its usage, its arguments and its options."""
    return "\n".join(line for path, command in verbs() for line in _verb(path, command))


def verbs() -> list[tuple[str, TyperCommand | TyperGroup]]:
    """Return every verb with what is typed to call it: ``tonearm tag``, ``tonearm keys new``."""
    from tonearm.cli.app import app

    return list(_commands(typer.main.get_command(app), "tonearm"))


def settings_markdown() -> str:
    """Return a table for each section of a file of settings: key, type, default, flag, help."""
    lines: list[str] = []
    for section, (kind, summary) in SECTIONS.items():
        lines += [
            f"## `[{section}]`",
            "",
            summary,
            "",
            "| key | type | default | flag | what it is |",
            "|" + "---|" * 5,
        ]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in setting_rows(kind)]
        lines.append("")
    return "\n".join(lines)


def environment_markdown() -> str:
    """Return a table of the environment variables that decide something and are no settings."""
    rows = [f"| `{variable.name}` | {_cell(variable.help)} | {variable.read_by} |" for variable in VARIABLES]
    return "\n".join(["| variable | what it decides | read by |", "|---|---|---|", *rows, ""])


def setting_rows(kind: type) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield of each setting of a dataclass its key, type, default, flag and help; tables within it are left out."""
    hints, helps = get_type_hints(kind, include_extras=True), field_helps(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) or get_origin(hint) is get_origin(Mapping[str, str]):
            continue
        flag = FLAGS.get(kind, {}).get(field.name)
        shown = "required" if field.default is dataclasses.MISSING else f"`{_toml(field.default)}`"
        name = "" if flag is None else f"`{flag_name(field.name, flag)}`"
        yield f"`{field.name}`", type_text(hint), shown, name, helps.get(field.name, "")


def field_helps(kind: type) -> dict[str, str]:
    """Return what is said of each field: by its flag, or by the paragraph ``Attributes`` of the class."""
    bases = [base for base in kind.__bases__ if dataclasses.is_dataclass(base)]
    helps = {name: text for base in bases for name, text in field_helps(base).items()}
    _, _, listed = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    for entry in re.split(r"\n(?=    \w)", "\n" + listed.rstrip()):
        names, colon, text = entry.strip().partition(": ")
        if colon:
            sentence = " ".join(text.replace("``", "`").split())
            helps |= {name.strip(): sentence[0].upper() + sentence[1:] for name in names.split(",")}
    return {**helps, **{name: flag.help for name, flag in FLAGS.get(kind, {}).items()}}


def type_text(hint: object) -> str:
    """Return a type as a person says it: ``int ≥ 1``, ``"best" or "last"``, ``list of text``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _bounded(arguments[0], arguments[1:])
    if origin is Literal:
        return ", ".join(f'"{value}"' for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if part is type(None) else type_text(part) for part in arguments)
    if origin is tuple:
        return f"list of {type_text(arguments[0])}"
    return NAMES.get(hint, str(hint))


def _bounded(kind: object, bounds: tuple[object, ...]) -> str:
    limits = []
    for bound in bounds:
        name, sign = SIGNS[type(bound)]
        value = getattr(bound, name)
        if value != float("inf"):
            limits.append(f"{sign} {value:g}")
    return " ".join([type_text(kind), ", ".join(limits)]).strip()


def _toml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:,}".replace(",", "_")


def _cell(text: str) -> str:
    """Return text for a cell of a table: Python-Markdown splits at a bar, but not at one in a span of code."""
    return re.sub(r"(`[^`]*`)|\|", lambda span: span[1] or r"\|", text)


def _commands(command: object, path: str) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Yield the verbs with what is typed to call them, those of a group after one another."""
    if isinstance(command, TyperCommand | VerbWithParts):
        yield path, command
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from _commands(inner, f"{path} {name}")


def _verb(path: str, command: TyperCommand | TyperGroup) -> Iterator[str]:
    context = typer.Context(command, info_name=path)
    yield f"## {path}"
    yield ""
    yield inspect.cleandoc(command.help or "")
    yield ""
    yield "```console"
    yield f"$ {' '.join([path, *command.collect_usage_pieces(context)])}"
    yield "```"
    yield ""
    for heading, rows in panels(command.params, context).items():
        yield f"**{heading}**"
        yield ""
        yield f"| {heading[:-1].lower() if heading == 'Arguments' else 'option'} | what it is |"
        yield "|---|---|"
        yield from (f"| `{name}` | {_cell(' '.join(text.split()))} |" for name, text in rows)
        yield ""


if __name__ == "__main__":
    PAGES = {"verbs": verbs_markdown, "settings": settings_markdown, "environment": environment_markdown}
    print(PAGES[sys.argv[1] if len(sys.argv) > 1 else "verbs"]())
