"""Architectures to train from random weights: ``mn04``, ``mn10``, and one per family that defines one, such as
``small-hubert`` and ``small-ast``.
"""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

from tonearm.models.config_files import CONFIG, PREPROCESSOR
from tonearm.models.families import FAMILIES, ScratchConfig

PREFIX = "small-"
SHORT = {"ast": "audio-spectrogram-transformer", "mobilenet": "mobilenet_audio"}
# Other sizes of a family, under the names that its papers use.
SIZES: dict[str, tuple[str, dict[str, float]]] = {
    "mn04": ("mobilenet_audio", {"width": 0.4}),
    "mn10": ("mobilenet_audio", {"width": 1.0}),
}


def is_architecture(name: str) -> bool:
    """Return whether ``name`` is an architecture, that is, a model without weights."""
    return _scratch_config(name) is not None


@functools.cache
def architecture_folder(name: str) -> Path:
    """Return a folder with its ``config.json`` and ``preprocessor_config.json``, which is deleted with this process."""
    scratch = _scratch_config(name)
    assert scratch is not None, name
    folder = Path(_process_folder().name) / name
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps({**scratch.config, "model_type": _model_type(name)}))
    (folder / PREPROCESSOR).write_text(json.dumps(dict(scratch.preprocessor)))
    return folder


# Cached so that it lasts as long as the process: the folder is deleted with the object.
@functools.cache
def _process_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tonearm-")


def _model_type(name: str) -> str:
    if name in SIZES:
        return SIZES[name][0]
    short = name.removeprefix(PREFIX)
    return SHORT.get(short, short)


def _scratch_config(name: str) -> ScratchConfig | None:
    family = FAMILIES.get(_model_type(name)) if name in SIZES or name.startswith(PREFIX) else None
    scratch = None if family is None else family.scratch_config()
    if scratch is None or name not in SIZES:
        return scratch
    return ScratchConfig({**scratch.config, **SIZES[name][1]}, scratch.preprocessor)
