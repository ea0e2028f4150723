"""Small models to train from random weights, one for each family that has one: ``small-hubert``, ``small-ast``, ..."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

from tonearm.models.config_files import CONFIG, PREPROCESSOR
from tonearm.models.families import FAMILIES, ScratchConfig

PREFIX = "small-"
SHORT = {"ast": "audio-spectrogram-transformer"}


def is_architecture(name: str) -> bool:
    """Return whether ``name`` is a small model without weights."""
    return _scratch_config(name) is not None


@functools.cache
def architecture_folder(name: str) -> Path:
    """Return a folder with its ``config.json`` and ``preprocessor_config.json``; it goes when this process ends."""
    found = _scratch_config(name)
    assert found is not None, name
    folder = Path(_own_folder().name) / name
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps({**found.config, "model_type": _model_type(name)}))
    (folder / PREPROCESSOR).write_text(json.dumps(dict(found.preprocessor)))
    return folder


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tonearm-")


def _model_type(name: str) -> str:
    short = name.removeprefix(PREFIX)
    return SHORT.get(short, short)


def _scratch_config(name: str) -> ScratchConfig | None:
    family = FAMILIES.get(_model_type(name)) if name.startswith(PREFIX) else None
    return None if family is None else family.scratch_config()
