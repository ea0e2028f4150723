"""What tonearm keeps beside a model's own files: how to read its scores, and how to feed an exported graph.

``tonearm.json`` in the model's folder::

    {"schema": 1, "window_s": 30.0, "calibration": {"temperature": ..., "thresholds": {...}, "precision": 0.9},
     "model": {...}}

``model`` describes an exported graph (``exported.description``); a checkpoint of transformers does not need the file.
A student also has ``fallback``, which has a schema of its own: when it should ask its teacher::

    {"schema": 1, "teacher": {"name": "yamnet", "revision": "sha256:..."}, "confidence": "highest_score",
     "threshold": 0.31, "target_agreement": 0.95, "agreement": 0.952, "agreement_of_kept": 0.91, "share_sent": 0.42,
     "num_windows": 1280, "curve": [{"threshold": ..., "share_sent": ..., "agreement": ..., "agreement_of_kept": ...}]}

A window whose highest score (sigmoid or softmax, as the student's labels are) is below ``threshold`` goes to the
teacher.

Files without ``schema`` are of schema 1. Keys that this tonearm does not know are kept by whatever rewrites the file.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tonearm.errors import CheckpointError
from tonearm.models.exported import description
from tonearm.models.exported.description import Description

FILE = "tonearm.json"
# The newest schema of the file that this version can read.
SCHEMA = 1
FALLBACK, FALLBACK_SCHEMA, HIGHEST = "fallback", 1, "highest_score"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What turns scores into probabilities that can be trusted.

    Attributes:
        temperature: what logits are divided by.
        thresholds: by label, the score from which it is right often enough; None if no score is.
        target_precision: the share of the shown labels that should be right.
    """

    temperature: float
    thresholds: Mapping[str, float | None]
    target_precision: float

    def facts(self) -> dict[str, Any]:
        """Return the calibration as files and hashes have it."""
        # The target was called ``precision`` when the first files were written; hashes of old runs depend on it.
        return {
            "temperature": self.temperature,
            "thresholds": dict(self.thresholds),
            "precision": self.target_precision,
        }


@dataclasses.dataclass(frozen=True)
class TonearmSidecar:
    """The contents of ``tonearm.json``.

    Attributes:
        window_s: seconds that a checkpoint was trained on.
        model: what an exported graph is.
    """

    window_s: float | None = None
    calibration: Calibration | None = None
    model: Description | None = None


def read_sidecar(folder: Path) -> TonearmSidecar:
    """Return the contents of the folder's ``tonearm.json``; an empty sidecar if there is none.

    Raises:
        CheckpointError: it cannot be understood, or a newer tonearm has written it.
    """
    path = folder / FILE
    values = _read_json(path)
    try:
        calibration, window_s, model = values.get("calibration"), values.get("window_s"), values.get("model")
        return TonearmSidecar(
            None if window_s is None else _positive_number(window_s),
            None if calibration is None else _parse_calibration(calibration),
            None if model is None else description.parse(model),
        )
    except (ValueError, OverflowError, RecursionError, KeyError, TypeError, AttributeError) as error:
        # Our own errors are sentences; of a KeyError or its like only the repr can be understood.
        reason = str(error) if type(error) is ValueError else repr(error)
        raise CheckpointError(f"{path} cannot be understood ({reason}); remove it or write it again") from None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be understood ({error!r}); remove it or write it again") from None
    schema = values.get("schema", SCHEMA) if isinstance(values, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise CheckpointError(
            f"{path} cannot be understood (expected an object with a schema from 1); remove it or write it again"
        )
    if schema > SCHEMA:
        raise CheckpointError(
            f"{path} has schema {schema}, and this tonearm knows schemas up to {SCHEMA}; install a newer tonearm"
        )
    return values


def _parse_calibration(values: Mapping[str, Any]) -> Calibration:
    thresholds = {str(label): None if value is None else float(value) for label, value in values["thresholds"].items()}
    if any(value is not None and not math.isfinite(value) for value in thresholds.values()):
        raise ValueError("a threshold that is not finite")
    return Calibration(_positive_number(values["temperature"]), thresholds, _positive_number(values["precision"]))


def _positive_number(value: object) -> float:
    if not (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf):
        raise ValueError(f"got {value!r}, expected a number above 0")
    return float(value)


def write_sidecar(folder: Path, sidecar: TonearmSidecar) -> None:
    """Write ``tonearm.json``, keeping unknown keys of the existing file and of its ``model``.

    Raises:
        CheckpointError: the existing file cannot be understood, or was written by a newer tonearm.
    """
    path = folder / FILE
    # A later tonearm, or another program, may have written keys that this version does not know.
    before = _read_json(path)
    known = {field.name for field in dataclasses.fields(TonearmSidecar)}
    values = {"schema": SCHEMA, **{name: value for name, value in before.items() if name not in known}}
    if sidecar.window_s is not None:
        values["window_s"] = sidecar.window_s
    if sidecar.calibration is not None:
        values["calibration"] = sidecar.calibration.facts()
    if sidecar.model is not None:
        values["model"] = _with_unknown_keys(before.get("model"), description.to_json(sidecar.model))
    path.write_text(json.dumps(values, indent=1) + "\n")


def _with_unknown_keys(before: object, values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` and the other keys from before, also those of a front end of the same kind."""
    if not isinstance(before, Mapping):
        return values
    merged = {**before, **values}
    # The parameters of another kind of front end mean nothing for this one.
    there, front_end = before.get("front_end"), values["front_end"]
    if isinstance(there, Mapping) and there.get("kind") == front_end["kind"]:
        merged["front_end"] = {**there, **front_end}
    return merged


@dataclasses.dataclass(frozen=True)
class Point:
    """What one threshold gives on held-out windows.

    Attributes:
        share_sent: share of the windows that are below the threshold, and so sent to the teacher.
        agreement: share of all windows whose first label is then the teacher's; those that were sent always agree.
        agreement_of_kept: the same share among the windows that were not sent; None if all were.
    """

    threshold: float
    share_sent: float
    agreement: float
    agreement_of_kept: float | None


@dataclasses.dataclass(frozen=True)
class Fallback:
    """When a student should ask its teacher: the chosen threshold, and some others for comparison.

    Attributes:
        teacher, revision: the model whose scores the student was trained on.
        target_agreement: ``chosen`` is the lowest threshold with at least this agreement.
        num_windows: number of held-out windows that it was chosen on.
    """

    teacher: str
    revision: str
    target_agreement: float
    chosen: Point
    curve: tuple[Point, ...]
    num_windows: int

    def facts(self) -> dict[str, Any]:
        """Return the values as ``tonearm.json`` has them."""
        return {
            "schema": FALLBACK_SCHEMA,
            "teacher": {"name": self.teacher, "revision": self.revision},
            "confidence": HIGHEST,
            "target_agreement": self.target_agreement,
            **dataclasses.asdict(self.chosen),
            "num_windows": self.num_windows,
            "curve": [dataclasses.asdict(point) for point in self.curve],
        }


def read_fallback(folder: Path) -> Fallback | None:
    """Return the ``fallback`` of the folder's ``tonearm.json``; None if there is none.

    Raises:
        CheckpointError: it cannot be understood, or a newer tonearm has written it.
    """
    path = folder / FILE
    values = _read_json(path).get(FALLBACK)
    if values is None:
        return None
    try:
        if values["schema"] > FALLBACK_SCHEMA or values["confidence"] != HIGHEST:
            raise CheckpointError(f"{path}: its {FALLBACK} is of a newer tonearm; install that")
        points = (_parse_point(values), *map(_parse_point, values["curve"]))
        teacher, target, count = values["teacher"], float(values["target_agreement"]), int(values["num_windows"])
        return Fallback(str(teacher["name"]), str(teacher["revision"]), target, points[0], points[1:], count)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its {FALLBACK} cannot be understood ({error!r}); distill the model again"
        ) from None


def _parse_point(values: Mapping[str, Any]) -> Point:
    threshold, share, agreement = (float(values[name]) for name in ("threshold", "share_sent", "agreement"))
    if not all(map(math.isfinite, (threshold, share, agreement))):
        raise ValueError("a number that is not finite")
    of_kept = values["agreement_of_kept"]
    return Point(threshold, share, agreement, None if of_kept is None else float(of_kept))


def write_fallback(folder: Path, fallback: Fallback) -> None:
    """Write ``fallback`` into the folder's ``tonearm.json``, keeping its other keys.

    Raises:
        CheckpointError: the existing file cannot be understood.
    """
    path = folder / FILE
    path.write_text(json.dumps({"schema": SCHEMA, **_read_json(path), FALLBACK: fallback.facts()}, indent=1) + "\n")
