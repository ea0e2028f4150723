"""Checkpoints with a wrong file, and what is asserted of each: it is refused in one line that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint, load_model

# A repository of code, which nothing may fetch.
EVIL = "evil/kernel"
# The value of a key that ``edit`` takes out.
GONE = object()


def edit(path: Path, values: Any) -> None:
    """Change some keys of a JSON file, or replace all of it by what is no object."""
    if isinstance(values, dict):
        values = {**json.loads(path.read_text()), **values}
        values = {name: value for name, value in values.items() if value is not GONE}
    path.write_text(values if isinstance(values, str) else json.dumps(values))


def describe(folder: Path) -> object:
    return describe_checkpoint(str(folder))


def load(folder: Path, *, allow_pickle: bool = False) -> Any:
    """Return the model of a folder."""
    return load_model(str(folder), revision=None, allow_pickle=allow_pickle).model


def assert_refused(folder: Path, message: str, *uses: Callable[[Path], object]) -> None:
    """Assert that each use refuses the folder in one line that names it."""
    for use in uses or (describe, load):
        with pytest.raises(CheckpointError, match=message) as caught:
            use(folder)
        assert "\n" not in caught.value.message and folder.name in caught.value.message
