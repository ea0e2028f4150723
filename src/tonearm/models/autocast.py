"""Half precision for one forward pass, the same for scoring and training."""

from __future__ import annotations

import torch


def autocast_type(precision: str) -> torch.dtype | None:
    """Return the type that autocast computes in, or None for fp32."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the context of a forward pass on ``device``, such as ``cuda:0``; in fp32 it changes nothing."""
    dtype = autocast_type(precision)
    # autocast wants the kind of device, without its number.
    return torch.autocast(device.split(":")[0], dtype=dtype, enabled=dtype is not None)
