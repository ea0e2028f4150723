"""Half precision is used in a forward pass where it was asked for, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from tonearm.models.autocast import autocast, autocast_type


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_are_computed_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    values = torch.ones(2, 2)
    with autocast("cpu", precision):
        assert (values @ values).dtype == dtype
    assert (values @ values).dtype == torch.float32, "as before once the pass is over"


def test_fp32_has_no_type_to_cast_to() -> None:
    assert autocast_type("fp32") is None
    assert autocast_type("fp16") is torch.float16
