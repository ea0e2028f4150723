"""What each job can be told, as frozen dataclasses; read from TOML and overridden by flags.

Precedence: flag, then ``--config FILE`` (or ``./tonearm.toml``), then the defaults here. An unknown key is refused
with the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from annotated_types import Ge, Gt, Le

from tonearm.errors import SettingsError

Runtime = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Positive = Annotated[int, Ge(1)]
Seconds = Annotated[float, Gt(0)]
T = TypeVar("T")

GENRE_MODEL = "sanchit-gandhi/distilhubert-finetuned-gtzan"
TAG_MODEL = "MIT/ast-finetuned-audioset-10-10-0.4593"


@dataclasses.dataclass(frozen=True)
class FetchSettings:
    """How objects are read from a store."""

    max_bytes: Positive = 2**30
    timeout_s: Seconds = 300.0
    num_attempts: Positive = 5
    backoff_s: Annotated[float, Ge(0)] = 0.5
    concurrency: Positive = 4


@dataclasses.dataclass(frozen=True)
class DecodeSettings:
    """How bytes become a waveform, and what a decoder may take while it does."""

    timeout_s: Seconds = 300.0
    max_memory_bytes: Positive = 2 * 2**30
    max_scored_s: Seconds = 4 * 3600.0


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Which checkpoints score a track, and how. ``None`` turns a head off."""

    genre_model: str | None = GENRE_MODEL
    tag_model: str | None = TAG_MODEL
    genre_revision: str | None = None
    tag_revision: str | None = None
    genre_window_s: Seconds = 30.0
    tag_window_s: Seconds | None = None
    runtime: Runtime = "auto"
    precision: Precision = "auto"
    batch_size: Positive | None = None
    top_tags: Positive = 20
    top_window_tags: Annotated[int, Ge(0)] = 3
    allow_pickle: bool = False


@dataclasses.dataclass(frozen=True)
class TagSettings:
    """One tagging run."""

    models: ModelSettings = ModelSettings()
    fetch: FetchSettings = FetchSettings()
    decode: DecodeSettings = DecodeSettings()
    max_windows: Positive | None = None
    workers: Positive | None = None
    limit: Positive | None = None
    max_error_rate: Annotated[float, Ge(0), Le(1)] = 0.1
    tracks_per_block: Positive | None = None
    verbose: bool = False


def build(kind: type[T], values: Mapping[str, Any], *, where: str = "settings") -> T:
    """Return ``kind`` made from ``values``, nested tables included.

    Args:
        kind: one of the frozen dataclasses here.
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
        if dataclasses.is_dataclass(hint) and not isinstance(value, hint):  # type: ignore[arg-type]
            value = build(hint, value, where=f"{where}, [{name}]")  # type: ignore[type-var, arg-type]
        given[name] = _checked(hint, value, f"{where}: {name}")
    return kind(**given)


def _checked(hint: Any, value: Any, where: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    if dataclasses.is_dataclass(hint):
        return value
    try:
        return TypeAdapter(hint).validate_python(value, strict=not isinstance(value, int))
    except ValidationError as error:
        expected = error.errors()[0]["msg"].lower()
        raise SettingsError(f"{where}: got {value!r}; {expected}") from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        SettingsError: the file is missing or is not TOML.
    """
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise SettingsError(f"no settings file {path}; give --config the path of a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML ({error})") from None


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``override`` that are not ``None``, tables merged."""
    merged = dict(base)
    for name, value in override.items():
        if isinstance(value, Mapping):
            merged[name] = merge(merged.get(name, {}), value)
        elif value is not None:
            merged[name] = value
    return merged
