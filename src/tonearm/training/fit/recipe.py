"""What a training run comes down to once everything ``auto`` is settled, and why."""

from __future__ import annotations

import dataclasses
import math
import platform
from pathlib import Path

from tonearm.audio.windows import WindowPlan
from tonearm.errors import SettingsError
from tonearm.models.runtimes import no_fast_fp16
from tonearm.settings import TrainSettings
from tonearm.training.data.examples import Example


@dataclasses.dataclass(frozen=True)
class Job:
    """All that a worker needs to train; the same on every worker.

    Attributes:
        labels: in the order of the logits.
        train, validation, test: the examples of each side.
    """

    settings: TrainSettings
    labels: tuple[str, ...]
    is_multi: bool
    plan: WindowPlan
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def metric(self) -> str:
        """The figure that says which evaluation is best."""
        if self.settings.metric != "auto":
            return self.settings.metric
        return "macro_map" if self.is_multi else "accuracy"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a linear decay to zero, as ``transformers.get_linear_schedule_with_warmup``."""

    num_steps: int
    num_warmup: int

    @classmethod
    def of(cls, num_steps: int, warmup_ratio: float) -> Schedule:
        """Return the schedule of ``num_steps`` with their first share warming up, rounded up."""
        return cls(num_steps, math.ceil(num_steps * warmup_ratio))

    def factor(self, step: int) -> float:
        """Return what the learning rate is multiplied by at ``step``, counted from 0."""
        if step < self.num_warmup:
            return step / max(1, self.num_warmup)
        return max(0.0, (self.num_steps - step) / max(1, self.num_steps - self.num_warmup))


def choose_precision(precision: str, device: str) -> tuple[str, str]:
    """Return the precision and why, for a person.

    Raises:
        SettingsError: one that this device does not train in.
    """
    if precision == "int8":
        raise SettingsError("got --precision int8, which is for scoring; expected auto, fp32, bf16 or fp16 to train")
    if device.startswith("cuda"):
        if precision != "auto":
            return precision, "as asked"
        return "fp16", "on a GPU, with a gradient scaler"
    if precision == "fp16":
        raise no_fast_fp16("--precision")
    if precision != "auto":
        return precision, "as asked"
    if _has_amx():
        return "bf16", "this processor multiplies bf16 matrices (AMX)"
    return "fp32", "no GPU, and this processor has no matrix unit for bf16 (AMX)"


def _has_amx() -> bool:
    path = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and path.is_file() and "amx_bf16" in path.read_text()
