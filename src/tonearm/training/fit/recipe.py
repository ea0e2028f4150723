"""The learning-rate schedule and the precision of a training."""

from __future__ import annotations

import dataclasses
import math
import platform
from pathlib import Path
from typing import NamedTuple

from tonearm.errors import SettingsError
from tonearm.models.runtimes import no_fast_fp16


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then linear decay to zero; equals ``transformers.get_linear_schedule_with_warmup``."""

    num_steps: int
    num_warmup: int

    @classmethod
    def of(cls, num_steps: int, warmup_ratio: float) -> Schedule:
        """Return the schedule over ``num_steps``, of which the share ``warmup_ratio``, rounded up, is warm-up."""
        return cls(num_steps, math.ceil(num_steps * warmup_ratio))

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate at ``step``, counted from 0."""
        if step < self.num_warmup:
            return step / max(1, self.num_warmup)
        return max(0.0, (self.num_steps - step) / max(1, self.num_steps - self.num_warmup))


class Precision(NamedTuple):
    """The precision that a training computes in, and the reason as text."""

    name: str
    why: str


def check_precision(precision: str, *, is_gpu: bool) -> None:
    """Refuse a precision in which the device cannot train.

    Raises:
        SettingsError: int8, or fp16 on a processor.
    """
    if precision == "int8":
        raise SettingsError("got --precision int8, which is for scoring; expected auto, fp32, bf16 or fp16 to train")
    if precision == "fp16" and not is_gpu:
        raise no_fast_fp16("--precision")


def choose_precision(precision: str, device: str) -> Precision:
    """Return the precision for this machine, with ``auto`` resolved.

    Raises:
        SettingsError: the device cannot train in it.
    """
    is_gpu = device.startswith("cuda")
    check_precision(precision, is_gpu=is_gpu)
    if precision != "auto":
        return Precision(precision, "as asked")
    if is_gpu:
        # The scaler keeps small gradients from becoming zero in fp16.
        return Precision("fp16", "on a GPU, with a gradient scaler")
    # Without matrix units for it, bf16 is emulated and slower than fp32.
    if _has_amx():
        return Precision("bf16", "this processor multiplies bf16 matrices (AMX)")
    return Precision("fp32", "no GPU, and this processor has no matrix unit for bf16 (AMX)")


def _has_amx() -> bool:
    path = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and path.is_file() and "amx_bf16" in path.read_text()
