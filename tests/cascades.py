"""A student and its teacher for tests: two small models of the same labels, the student's with a threshold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

from tonearm import demo
from tonearm.models.calibration import Fallback, Point, write_fallback
from tonearm.models.checkpoint import describe_checkpoint

THRESHOLD = 0.4
CURVE = (Point(0.2, 0.0, 0.8, 0.8), Point(0.5, 0.5, 0.97, 0.95))


def save_teacher(folder: Path, *, labels: dict[str, str] | None = None, scale: float = -1.5) -> Path:
    """Save the demo's model of genres with other weights in its last layer, and some of its labels renamed.

    Its labels are in the opposite order, which a fallback must not mix up.
    """
    shutil.copytree(demo.genre_model_path(), folder, ignore=shutil.ignore_patterns("openvino"))
    weights = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    names = [config["id2label"][str(number)] for number in range(len(config["id2label"]))][::-1]
    names = [(labels or {}).get(name, name) for name in names]
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: value * scale if name.startswith("classifier.") else value for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors")
    return folder


def save_student(folder: Path, teacher: Path, *, threshold: float = THRESHOLD) -> Path:
    """Save the demo's model of genres as the student of a teacher."""
    shutil.copytree(demo.genre_model_path(), folder)
    info = describe_checkpoint(str(teacher))
    chosen = Point(threshold, 0.3, 0.95, 0.93)
    write_fallback(folder, Fallback(info.name, info.revision, 0.95, chosen, CURVE, 100))
    return folder
