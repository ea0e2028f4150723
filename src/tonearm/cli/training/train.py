"""``tonearm train``: settings from flags, the run, and what a person is told at its end."""

from __future__ import annotations

import shlex
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tonearm import settings as settings_module
from tonearm.cli.tag import stop_like_ctrl_c
from tonearm.cli.terminal import clock
from tonearm.cli.training.progress import TrainingLine
from tonearm.distributed.training import driver
from tonearm.errors import SettingsError
from tonearm.settings import TrainSettings
from tonearm.storage.uris import shown
from tonearm.training.publish.card import headline, main_side
from tonearm.wording import counted


def train_settings(flags: Mapping[str, Any], config: Path | None, assignments: Sequence[str] = ()) -> TrainSettings:
    """Return the run's settings: ``--set`` over flags over the TOML file over the defaults.

    Args:
        config: a file whose ``[train]`` table, or else whose whole, are the settings; ``[train]`` of ./tonearm.toml
            without it.
        assignments: ``name=value``, the value as TOML has it; ``table.name=value`` for a nested one.

    Raises:
        SettingsError: an unknown key or a wrong value.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values = settings_module.read_toml(config)
        values = values.get("train", values)
    elif Path("tonearm.toml").is_file():
        values = settings_module.read_toml("tonearm.toml").get("train", {})
    values = settings_module.merge(values, flags)
    for assignment in assignments:
        values = settings_module.merge(values, _assigned(assignment))
    return settings_module.build(TrainSettings, values, where=str(config or "settings"))


def _assigned(assignment: str) -> dict[str, Any]:
    name, sign, text = assignment.partition("=")
    if not sign or not name.strip():
        raise SettingsError(f"got --set {assignment}, expected name=value, such as --set augment.mixup=0.3")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in reversed(name.strip().split(".")):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def train(source: str, out: str, settings: TrainSettings, *, overwrite: bool = False) -> int:
    """Run, and print what came out; return the exit status."""
    stop_like_ctrl_c()
    started = time.monotonic()
    with TrainingLine(settings.epochs) as watcher:
        trained = driver.train(source, out, settings, watcher, overwrite=overwrite)
    facts = trained.facts
    if not trained.is_new:
        print(f"nothing to do: {shown(out)} holds this model already")
    else:
        print(
            f"{counted(facts['steps'], 'step')}, {counted(facts['epochs'], 'epoch')} in "
            f"{clock(time.monotonic() - started)}; kept: "
            f"epoch {facts['kept_epoch']}"
        )
    figures = facts["evaluation"]
    side = main_side(figures)
    if side is not None:
        print(f"{side}: {headline(figures[side], is_multi=facts['is_multi'])}")
        if figures[side].get("num_failed"):
            print(f"left out, no score that is a number: {counted(figures[side]['num_failed'], 'track')} of {side}")
    for comparison in facts["comparisons"]:
        print(f"{comparison['split']}: {headline(comparison['figures'], is_multi=facts['is_multi'])}")
    print(f"model: {shown(out)}")
    head = "--tag-model" if facts["is_multi"] else "--genre-model"
    print(f"use it: tonearm tag SOURCE {head} {shlex.quote(shown(out))} --out DEST")
    return 0
