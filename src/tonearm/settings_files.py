"""Frozen dataclasses of settings out of TOML files and flags, checked key by key."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from tonearm.errors import SettingsError
from tonearm.heads import FallbackSettings, HeadSettings, read_heads

# What a file of settings has tables for that flags are put into.
TABLES = ("models", "tag", "serve", "train")
T = TypeVar("T")


def build(kind: type[T], values: Mapping[str, Any], *, where: str = "settings") -> T:
    """Return ``kind`` made from ``values``, nested tables included.

    Args:
        kind: one of the frozen dataclasses of ``settings``.
        values: as ``tomllib`` reads them; ``None`` is kept as ``None``.
        where: what the message calls the place, e.g. the file's name.

    Raises:
        SettingsError: an unknown key (with the nearest known one) or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: got {values!r}, expected a table of settings")
    hints = get_type_hints(kind, include_extras=True)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(known)}"
            raise SettingsError(f"{where}: unknown setting {name!r}; {advice}")
        hint = hints[name]
        if hint == Mapping[str, HeadSettings]:
            value = read_heads(value, f"{where}, [{name}]", functools.partial(build, HeadSettings))
        if hint == Mapping[str, FallbackSettings]:
            value = read_fallbacks(value, f"{where}, [{name}]")
        if dataclasses.is_dataclass(hint) and not isinstance(value, hint):  # type: ignore[arg-type]
            value = build(hint, value, where=f"{where}, [{name}]")  # type: ignore[type-var, arg-type]
        given[name] = _checked(hint, value, f"{where}: {name}")
    return kind(**given)


def _checked(hint: Any, value: object, where: str) -> object:
    # `import tonearm` and --help build no settings, and pydantic is slow to load.
    from pydantic import TypeAdapter, ValidationError

    if dataclasses.is_dataclass(hint):
        return value
    try:
        # TOML's lists are tuples here; what else is of another kind than asked for is refused, true for 1 as well.
        return TypeAdapter(hint).validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
    except ValidationError as error:
        expected = error.errors()[0]["msg"].lower().replace("input should be less than inf", "expected a finite number")
        raise SettingsError(f"{where}: got {value!r}; {expected}") from None


def read_fallbacks(values: object, where: str) -> dict[str, FallbackSettings]:
    """Return the fallbacks of a table ``[fallback]``: ``HEAD = "MODEL[:THRESHOLD]"``, or a table for each.

    ``"none"`` takes one away.

    Args:
        where: what messages call the table.

    Raises:
        SettingsError: no model, or no such threshold.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: got {values!r}, expected a table of models by head")
    fallbacks = {}
    for name, value in values.items():
        if isinstance(value, FallbackSettings):
            fallbacks[name] = value
        elif isinstance(value, Mapping) and value.get("model"):
            fallbacks[name] = build(FallbackSettings, value, where=f"{where}, [{name}]")
        elif not isinstance(value, str):
            raise SettingsError(f"{where}: {name}: got {value!r}, expected a model or a table with one")
        elif value != "none":
            fallbacks[name] = FallbackSettings.parse(value, f"{where}: {name}")
    return fallbacks


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        SettingsError: the file is missing or unreadable, is not TOML, or has a value where a table should be.
    """
    try:
        with Path(path).open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        raise SettingsError(f"no settings file {path}; give --config the path of a TOML file") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror or error}); give --config a TOML file") from None
    except (ValueError, RecursionError) as error:  # of signs that are not UTF-8 too
        raise SettingsError(f"{path}: not TOML ({error})") from None
    for name in TABLES:
        if not isinstance(values.get(name, {}), Mapping):
            raise SettingsError(
                f"{path}: {name}: got {values[name]!r}, expected a table: [{name}] and its settings below"
            )
    return values


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``override`` that are not ``None``, tables merged."""
    merged = dict(base)
    for name, value in override.items():
        if isinstance(value, Mapping):
            before = merged.get(name, {})
            # What is no table there is left for ``build`` to refuse.
            merged[name] = merge(before, value) if isinstance(before, Mapping) else before
        elif value is not None:
            merged[name] = value
    return merged
