"""Keyword arguments, which are the command's flags with underscores, made settings together with a TOML file.

One rule for every verb. A file has the tables of the verbs, ``[tag]``, ``[serve]``, ``[train]`` and ``[distill]``, and
the tables that they share, ``[models]``, ``[fetch]`` and ``[decode]``. A verb's settings are its own table over the
shared ones, and flags over both. What stands above all tables is read too, as tonearm 0.1.0 had it: as tagging's
settings, and as those of training where a file without ``[train]`` is given to it by name. ``[tag.models]`` goes over
``[models]``.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

from tonearm import settings
from tonearm.errors import SettingsError, UsageError
from tonearm.settings import DistillSettings, LabelSettings, ServeSettings, TagSettings, TrainSettings

Source = str | os.PathLike[str]
Sources = Source | Iterable[Source]

VERBS = ("tag", "serve", "train", "distill")
SHARED = ("models", "fetch", "decode")
DEFAULT_FILE = "tonearm.toml"
# Flags that are settings of the table [models], and of [labels] in training.
IN_MODELS = ("runtime", "precision", "force_precision", "calibrated", "heads")
NAMES_OF_MODELS = ("genre_model", "tag_model")
IN_LABELS = frozenset(field.name for field in dataclasses.fields(LabelSettings))


class ModelFlags(TypedDict, total=False):
    """Which models score a track, and how; None and what is not given leave it to the file and the defaults.

    Attributes:
        genre_model, tag_model: a folder or hub id; ``"none"`` turns the head off.
        demo_models: the small built-in ones.
        max_windows: at most this many windows per head and track, spread evenly.
        runtime: ``"auto"``, ``"torch"`` or ``"openvino"``.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``.
        force_precision: use it also where it is no faster on this processor than a closer one, or wrong on this GPU.
        calibrated: use the temperature and thresholds that ``evaluate`` has fitted.
        heads: further heads by name: a folder or hub id, or ``"MODEL:single"``, ``:multi`` or ``:embedding``.
        config: a TOML file with any of the settings; ./tonearm.toml is read without it.
    """

    genre_model: Source | None
    tag_model: Source | None
    demo_models: bool
    max_windows: int | None
    runtime: str | None
    precision: str | None
    force_precision: bool | None
    calibrated: bool | None
    heads: Mapping[str, Source]
    config: Source | None


class ScoreFlags(ModelFlags, total=False):
    """All that decides what is said of a track.

    Attributes:
        fallback: by head, the model that windows go to of which the head's own is unsure: a folder or hub id, or
            ``"MODEL:THRESHOLD"``; by default the threshold is the one that ``distill`` has kept with the head's model.
    """

    fallback: Mapping[str, Source]


class RunFlags(TypedDict, total=False):
    """A run over a library, or the plan of one.

    Attributes:
        workers: scoring workers; one per GPU, or one.
        limit: only this many tracks, the first listed.
        max_error_rate: ``TooManyFailures`` where a larger share of the tracks failed.
        verbose: show what Ray says.
    """

    workers: int | None
    limit: int | None
    max_error_rate: float | None
    verbose: bool | None


class TagFlags(ScoreFlags, RunFlags, total=False):
    """All that decides how a library is tagged."""


class FitFlags(TypedDict, total=False):
    """What every training has; see ``settings.TrainSettings`` and ``settings.LabelSettings``.

    Attributes:
        tracker: names, or ``["none"]``.
        set: any setting, by its name (``{"augment.mixup": 0.3}``) or as ``"NAME=VALUE"`` each.
        config: a TOML file; the verb's table of ./tonearm.toml is read without it.
    """

    new_head: bool | None
    label_by: str | None
    group_by: str | None
    split_by: str | None
    validation_on: Sequence[str] | None
    test_on: Sequence[str] | None
    validation_share: float | None
    duplicates: str | None
    window_s: float | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    precision: str | None
    seed: int | None
    workers: int | None
    tracker: Sequence[str] | None
    set: Mapping[str, Any] | Sequence[str]
    config: Source | None
    verbose: bool | None


class TrainFlags(FitFlags, total=False):
    """A training run; a file's table is ``[train]``."""

    model: Source | None
    from_scratch: bool | None
    multi_label: bool | None
    skip_unlabelled: bool | None
    source_by: str | None
    freeze_feature_encoder: bool | None


class DistillFlags(FitFlags, total=False):
    """A distillation; see ``settings.DistillSettings``. A file's table is ``[distill]``.

    Attributes:
        student: an architecture such as ``"mn04"``, or a model's folder or hub id to go on with.
    """

    student: Source | None
    target_agreement: float | None
    teacher_precision: str | None
    max_windows: int | None


def source_list(sources: Sources) -> list[str]:
    """Return one or several sources as texts.

    Raises:
        UsageError: none, or what is neither a path nor a URL.
    """
    several = [sources] if isinstance(sources, str | os.PathLike) or not isinstance(sources, Iterable) else sources
    listed = [place_of(source, "the source") for source in several]
    if not listed:
        raise UsageError("got no sources, expected a path, a URL, or several of them")
    return listed


def place_of(value: object, name: str) -> str:
    """Return a path or URL as its text.

    Args:
        name: what messages call it, such as ``out``.

    Raises:
        UsageError: neither a text nor a path, or an empty text.
    """
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"got {name} {value!r:.80} of the type {type(value).__name__}, expected a path or a URL")
    place = os.fsdecode(value)
    if not place:
        raise UsageError(f"got an empty text for {name}, expected a path or a URL")
    return place


def texts(value: str | Iterable[str], name: str) -> list[str]:
    """Return one text or several as a list; one text alone is not a list of its letters.

    Args:
        name: of the keyword, for messages.

    Raises:
        UsageError: something else.
    """
    several = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else None
    if several is None or not all(isinstance(text, str) for text in several):
        raise UsageError(f"got {name}={value!r:.80}, expected a text or several of them")
    return several


def tag_settings(flags: Mapping[str, Any], known: type = TagFlags, *, verb: str = "tag") -> TagSettings:
    """Return the settings of tagging: flags over the file over the defaults.

    Args:
        flags: of ``known``; others are refused as Python refuses unknown keywords.
        verb: what messages call the function.

    Raises:
        SettingsError: an unknown setting or a wrong value.
        UsageError: flags that contradict each other.
        TypeError: an unknown keyword.
    """
    check_names(verb, flags, known)
    config, values = _file("tag", flags.get("config"))
    return settings.build(TagSettings, _with_models(values, flags), where=config)


def serve_settings(flags: Mapping[str, Any]) -> ServeSettings:
    """Return a server's settings: flags over the file over the defaults.

    Args:
        flags: fields of ``ServeSettings``, and ``ModelFlags``.

    Raises:
        SettingsError, UsageError: as ``tag_settings``.
    """
    config, values = _file("serve", flags.get("config"))
    return settings.build(ServeSettings, _with_models(values, flags), where=config)


def train_settings(flags: Mapping[str, Any]) -> TrainSettings:
    """Return a training run's settings: ``set`` over the other flags over the file over the defaults.

    Raises:
        SettingsError: an unknown setting or a wrong value.
        TypeError: an unknown keyword.
    """
    check_names("train", flags, TrainFlags)
    config, values = _file("train", flags.get("config"))
    return settings.build(TrainSettings, _with_labels(values, flags), where=config)


def distill_settings(flags: Mapping[str, Any]) -> DistillSettings:
    """Return a distillation's settings, as ``train_settings`` does.

    Raises:
        SettingsError, TypeError: as there.
    """
    check_names("distill", flags, DistillFlags)
    config, values = _file("distill", flags.get("config"))
    given = {"model" if name == "student" else name: value for name, value in flags.items()}
    # A table that is given in part has its class's defaults for the rest, not those of the field.
    recipe = {"labels": {"duplicates": "drop"}, "augment": {"mixup": 0.3}}
    return settings.build(DistillSettings, settings.merge(recipe, _with_labels(values, given)), where=config)


def _with_labels(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's values with the flags put in, those of the table [labels] there, and ``set`` over both."""
    rest = {name: _plain(value) for name, value in flags.items() if name not in ("config", "set", "tracker")}
    given: dict[str, Any] = {name: value for name, value in rest.items() if name not in IN_LABELS}
    given["labels"] = {name: value for name, value in rest.items() if name in IN_LABELS}
    if tracker := flags.get("tracker"):
        # 'none' is how a command line gives no tracker at all.
        given["trackers"] = [name for name in texts(tracker, "tracker") if name != "none"]
    merged = settings.merge(values, given)
    assignments = flags.get("set") or ()
    if isinstance(assignments, Mapping):
        parts = [_nested(name, assignments[name]) for name in texts(assignments, "set")]
    else:
        parts = [_assigned(text) for text in texts(assignments, "set")]
    for part in parts:
        merged = settings.merge(merged, part)
    return merged


def of_verb(file: Mapping[str, Any], verb: str, *, is_named: bool) -> dict[str, Any]:
    """Return what a file's tables say of a verb.

    Args:
        is_named: the file was given by name, and not found as ./tonearm.toml.
    """
    above = {name: value for name, value in file.items() if name not in VERBS}
    # Files of 0.1.0 had no table for these verbs; what stands above all tables was theirs.
    is_all = verb == "tag" or (verb == "train" and is_named and "train" not in file)
    if not is_all:
        kind = ServeSettings if verb == "serve" else TrainSettings
        shared = [field.name for field in dataclasses.fields(kind) if field.name in SHARED]
        above = {name: value for name, value in above.items() if name in shared}
    return settings.merge(above, file.get(verb, {}))


def check_names(verb: str, flags: Mapping[str, Any], known: type) -> None:
    """Refuse keywords that are none of ``known``, a typed dictionary.

    Raises:
        TypeError: one of them is.
    """
    names = sorted(get_type_hints(known))
    for name in flags:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            advice = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
            raise TypeError(f"tonearm.{verb}() has no keyword {name}; {advice}")


def _file(verb: str, config: Source | None) -> tuple[str, dict[str, Any]]:
    """Return what messages call the file of settings, and what it says of a verb.

    Raises:
        SettingsError: no path, or a file that cannot be read.
    """
    if not isinstance(config, str | os.PathLike | None):
        raise SettingsError(f"got config={config!r:.80}, expected the path of a TOML file")
    if config is None and not Path(DEFAULT_FILE).is_file():
        return "settings", {}
    file = settings.read_toml(os.fspath(config or DEFAULT_FILE))
    return str(config or "settings"), of_verb(file, verb, is_named=config is not None)


def _with_models(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's values with the flags put in, those of the table [models] there."""
    apart = (*IN_MODELS, *NAMES_OF_MODELS, "demo_models", "config", "fallback")
    given: dict[str, Any] = {name: value for name, value in flags.items() if name not in apart}
    given["models"] = {name: flags.get(name) for name in IN_MODELS}
    given["models"]["heads"] = _by_name("heads", flags.get("heads"), "{'mood': 'models/moods:multi'}")
    if flags.get("fallback") is not None:
        given["fallback"] = _by_name("fallback", flags["fallback"], "{'tags': 'models/large'}")
    merged = settings.merge(values, given)
    merged["models"] = _choose_models(merged.get("models", {}), flags)
    return merged


def _by_name(keyword: str, models: object, such_as: str) -> dict[str, str]:
    """Return the texts of models that were given by their head's name."""
    given = models or {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise SettingsError(f"got {keyword}={given!r:.80}, expected models by name, such as {such_as}")
    return {name: _model(f"{keyword}[{name!r}]", model) for name, model in given.items()}


def _choose_models(models: object, flags: Mapping[str, Any]) -> object:
    """Return the table [models] with the flags that name models put in."""
    named = {name: _model(name, flags[name]) for name in NAMES_OF_MODELS if flags.get(name) is not None}
    if not isinstance(models, Mapping):
        return models  # for ``build`` to refuse
    chosen = dict(models)
    is_demo = flags.get("demo_models")
    if not isinstance(is_demo, bool | None):
        raise SettingsError(f"got demo_models={is_demo!r:.80}, expected True or False")
    if is_demo:
        if any(named.values()):
            raise UsageError("got --demo-models together with --genre-model or --tag-model; give one or the other")
        from tonearm import demo

        chosen |= demo.models()
    chosen |= named
    # TOML has no null; 'none' turns a head off from a file as from a flag.
    return chosen | {name: None for name in NAMES_OF_MODELS if chosen.get(name) == "none"}


def _model(name: str, value: object) -> str:
    """Return the text of a model that was given as the keyword ``name``."""
    # The empty text stands for the model that an installed package brings along for a head; no other has one.
    if not isinstance(value, str | os.PathLike) or (name in NAMES_OF_MODELS and not os.fspath(value)):
        raise SettingsError(f"got {name}={value!r:.80}, expected a folder or a hub id, or 'none' to turn the head off")
    return os.fsdecode(value)


def _plain(value: object) -> object:
    """Return a path as its text, and what holds several values as a list; TOML has neither paths nor tuples."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return list(value) or None if isinstance(value, list | tuple) else value


def _assigned(assignment: str) -> dict[str, Any]:
    name, sign, text = assignment.partition("=")
    if not sign or not name.strip():
        raise SettingsError(f"got --set {assignment}, expected name=value, such as --set augment.mixup=0.3")
    try:
        # As a file would have it: 0.3, true and [1, 2] are what they look like, and other text is text.
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return _nested(name, value)


def _nested(name: str, value: object) -> dict[str, Any]:
    parts = name.strip().split(".")
    for part in reversed(parts[1:]):
        value = {part: value}
    return {parts[0]: value}
