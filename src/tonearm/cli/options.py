"""Options of a verb that are made from the settings: what ``settings`` and ``settings_flags`` say, said to typer.

A verb names the settings that it takes, and gets what was given of them as one mapping, which is what the library's
function of the verb's name takes as keywords::

    @with_flags(settings(ModelSettings), DEMO_MODELS, CONFIG)
    def models(*, flags: Given) -> int: ...
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import typer

from tonearm.cli.settings_flags import FLAGS, MODELS, RUN, Flag, flag_name

MAX_DEFAULT = 30
# What was given on the command line, by the names of keywords; what was not given is not in it.
Given = dict[str, Any]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; anything else goes to stderr.")]


@dataclasses.dataclass(frozen=True)
class VerbOption:
    """One option of a verb: the keyword that it gives, and how typer reads it."""

    keyword: str
    annotation: Any
    absent: bool | None = None
    read: Callable[[Sequence[str]], object] | None = None

    def value(self, parsed: object) -> object:
        """Return what the library takes for what typer has parsed."""
        return self.read(cast(Sequence[str], parsed)) if self.read is not None else parsed


DEMO_MODELS = VerbOption(
    "demo_models",
    Annotated[
        bool,
        typer.Option(
            "--demo-models",
            help="Use the small built-in models, which know only synthesized music.",
            rich_help_panel=MODELS,
        ),
    ],
    absent=False,
)
CONFIG = VerbOption(
    "config",
    Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML file with any of the settings; ./tonearm.toml is read without it.",
            rich_help_panel=RUN,
        ),
    ],
)


def settings(kind: type, *names: str) -> tuple[VerbOption, ...]:
    """Return the options of the settings of ``kind`` that have a flag, or of those named only."""
    return tuple(_option(kind, name) for name in names or FLAGS[kind])


def with_flags(*parts: VerbOption | Sequence[VerbOption]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return a decorator that gives a verb these options, and the verb what was given of them as ``flags``."""
    options = [option for part in parts for option in ((part,) if isinstance(part, VerbOption) else part)]

    def decorate(verb: Callable[..., int]) -> Callable[..., int]:
        signature = inspect.signature(verb, eval_str=True)

        @functools.wraps(verb)
        def call(**given: Any) -> int:
            parsed = {option: given.pop(option.keyword) for option in options}
            # For a flag that may be repeated and was not given, typer has an empty list.
            flags = {o.keyword: o.value(value) for o, value in parsed.items() if value not in (o.absent, [])}
            return verb(**given, flags=flags)

        kind = inspect.Parameter.KEYWORD_ONLY
        arguments = [parameter for parameter in signature.parameters.values() if parameter.name != "flags"]
        arguments = [parameter.replace(kind=kind) for parameter in arguments]
        made = [inspect.Parameter(o.keyword, kind, default=o.absent, annotation=o.annotation) for o in options]
        # typer reads both: defaults from the signature, types from the annotations.
        call.__signature__ = signature.replace(parameters=[*arguments, *made])  # type: ignore[attr-defined]
        annotations = {parameter.name: parameter.annotation for parameter in (*arguments, *made)}
        call.__annotations__ = annotations | {"return": int}
        return call

    return decorate


def choices(hint: object) -> tuple[str, ...]:
    """Return the values of the ``Literal`` that a setting's type is, or is a list of; nothing of other types."""
    if get_origin(hint) is Literal:
        return tuple(map(str, get_args(hint)))
    return choices(get_args(hint)[0]) if get_origin(hint) in (tuple, Annotated) else ()


def _option(kind: type, name: str) -> VerbOption:
    flag = FLAGS[kind][name]
    field = next(field for field in dataclasses.fields(kind) if field.name == name)
    hint = get_type_hints(kind, include_extras=True)[name]
    values = flag.choices or choices(hint)
    plain, is_many = _plain_type(hint)
    is_switch = plain is bool
    decls = f"{flag_name(name, flag)}/{flag.off}" if flag.off else flag_name(name, flag)
    option = typer.Option(
        decls,
        help=_help(flag, field.default),
        metavar=None if is_switch else flag.metavar or "|".join(values) or None,
        rich_help_panel=flag.panel,
        show_default=False,
        parser=_chooser(values) if values else None,
        autocompletion=_completer(values) if values else None,
    )
    keyword = flag.keyword or name
    if is_switch and not flag.off:
        return VerbOption(keyword, Annotated[bool, option], absent=False)
    given = list[plain] if is_many else plain  # type: ignore[valid-type]
    return VerbOption(keyword, Annotated[given | None, option], read=flag.read)


def _plain_type(hint: object) -> tuple[type, bool]:
    """Return what one value of a setting is to typer, and whether the flag may be repeated."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _plain_type(arguments[0])
    if origin in (Union, types.UnionType):
        return _plain_type(next(part for part in arguments if part is not types.NoneType))
    if origin is Literal:
        return str, False
    if isinstance(hint, type) and origin is None:
        return hint, False
    return str, True  # a tuple of texts, and the heads by name


def _help(flag: Flag, default: object) -> str:
    """Return the help with the default behind it, unless there is none to say or it would be broken over two lines."""
    is_plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    if is_plain and 0 < len(str(default)) <= MAX_DEFAULT:
        return f"{flag.help} [default: {default}]"
    return flag.help


def _chooser(values: Sequence[str]) -> Callable[[str], str]:
    def choose(text: str) -> str:
        if text not in values:
            raise typer.BadParameter(f"got {text!r}, expected one of {', '.join(map(repr, values))}")
        return text

    return choose


def _completer(values: Sequence[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete
