"""What tonearm keeps beside a checkpoint's own files: the window it was trained on, and how to read its scores.

``tonearm.json`` in the model's folder; a checkpoint without one is as good, only without these.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tonearm.errors import CheckpointError

FILE = "tonearm.json"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How scores become probabilities one can trust.

    Attributes:
        temperature: what logits are divided by.
        thresholds: for each label the score from which it is right often enough; None where no score is.
        target_precision: what "often enough" was, a share of the shown labels.
    """

    temperature: float
    thresholds: Mapping[str, float | None]
    target_precision: float

    def facts(self) -> dict[str, Any]:
        """Return it as files and hashes have it, where the share is called ``precision``."""
        return {
            "temperature": self.temperature,
            "thresholds": dict(self.thresholds),
            "precision": self.target_precision,
        }


@dataclasses.dataclass(frozen=True)
class TonearmSidecar:
    """The contents of ``tonearm.json``."""

    window_s: float | None = None
    calibration: Calibration | None = None


def read_sidecar(folder: Path) -> TonearmSidecar:
    """Return what the folder's ``tonearm.json`` says; nothing where there is none.

    Raises:
        CheckpointError: it cannot be understood.
    """
    path = folder / FILE
    if not path.is_file():
        return TonearmSidecar()
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        found = values.get("calibration")
        calibration = None
        if found is not None:
            thresholds = {
                str(label): None if value is None else float(value) for label, value in found["thresholds"].items()
            }
            if any(value is not None and not math.isfinite(value) for value in thresholds.values()):
                raise ValueError("a threshold that is not finite")
            calibration = Calibration(_positive(found["temperature"]), thresholds, _positive(found["precision"]))
        window_s = values.get("window_s")
        return TonearmSidecar(None if window_s is None else _positive(window_s), calibration)
    except (ValueError, OverflowError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be understood ({error!r}); remove it or write it again") from None


def _positive(value: object) -> float:
    if not (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf):
        raise ValueError(f"got {value!r}, expected a number above 0")
    return float(value)


def write_sidecar(folder: Path, sidecar: TonearmSidecar) -> None:
    """Write ``tonearm.json``."""
    calibration = None if sidecar.calibration is None else sidecar.calibration.facts()
    values = {"window_s": sidecar.window_s, "calibration": calibration}
    values = {name: value for name, value in values.items() if value is not None}
    (folder / FILE).write_text(json.dumps(values, indent=1) + "\n")
