"""Multiply-adds are counted as those of a model's layers."""

from __future__ import annotations

import torch
from torch import Tensor

from tonearm.models.cost import cost_of


def test_multiply_adds_are_those_of_the_layers() -> None:
    """Counted by hand for one convolution and one linear layer, whatever the features cost."""

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = torch.nn.Conv1d(1, 4, 10, 10, bias=False), torch.nn.Linear(4, 3)

        def forward(self, values: Tensor) -> Tensor:
            mean: Tensor = self.last(self.conv(values[:, None]).mean(dim=2))
            return mean

    class AsIs(torch.nn.Module):
        def forward(self, windows: Tensor) -> dict[str, Tensor]:
            return {"values": windows @ torch.eye(windows.shape[1])}

    assert cost_of(Tiny(), AsIs(), 1000) == (40 + 15, 100 * 40 + 12)  # type: ignore[arg-type]
