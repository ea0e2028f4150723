"""What a model costs: its parameters, and the multiply-adds per window."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Cost(NamedTuple):
    """Parameters, and multiply-adds of one window in products of matrices, convolutions and attention."""

    num_parameters: int
    multiply_adds: int


def cost_of(model: PreTrainedModel, features: nn.Module, window_samples: int) -> Cost:
    """Return the cost of one window, counted without computing it; features count for nothing.

    Args:
        features: what makes the model's inputs of float32 [B, S]; see ``Family.features``.
    """
    inputs = {name: value.to("meta") for name, value in features(torch.zeros(1, window_samples)).items()}
    # On the device ``meta`` tensors have shapes and no numbers, so that nothing is computed.
    shapes = copy.deepcopy(model).eval().to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(**inputs)
    # The counter counts a multiplication and its addition as two operations.
    return Cost(sum(weight.numel() for weight in model.parameters()), counter.get_total_flops() // 2)
