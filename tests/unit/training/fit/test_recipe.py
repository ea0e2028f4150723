"""The learning rate follows the schedule of transformers, and the precision fits the device."""

from __future__ import annotations

import pytest
import torch

from tonearm.errors import SettingsError
from tonearm.training.fit.recipe import Schedule, choose_precision


def test_the_schedule_is_the_references() -> None:
    from transformers import get_linear_schedule_with_warmup

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    reference = get_linear_schedule_with_warmup(optimizer, 10, 100)
    own = Schedule.of(100, 0.1)
    for step in range(100):
        assert own.factor(step) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


@pytest.mark.parametrize(
    ("precision", "device", "chosen"),
    [("auto", "cuda:0", "fp16"), ("bf16", "cuda:0", "bf16"), ("fp32", "cpu", "fp32"), ("bf16", "cpu", "bf16")],
)
def test_the_precision_fits_the_device(precision: str, device: str, chosen: str) -> None:
    assert choose_precision(precision, device)[0] == chosen


@pytest.mark.parametrize(("precision", "message"), [("fp16", "no fast fp16"), ("int8", "for scoring")])
def test_a_precision_that_does_not_train_is_refused(precision: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        choose_precision(precision, "cpu")
