"""A card that is the processor: copies that stay where they are, and a "graph" that runs the pass again.

What is wrong with a real card is put in by its subclasses, or by what is given to it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tonearm.models.cuda.card import CapturedPass, Forward
from tonearm.models.torch_runtime import Outputs

MEMORY_BYTES = 2**40


class Repeated:
    """A pass that is run again."""

    def __init__(self, forward: Forward, windows: Tensor) -> None:
        self.forward, self.place = forward, windows.clone()
        self.outputs = forward(self.place)

    def replay(self, windows: Tensor) -> Outputs:
        self.place.copy_(windows)
        self.outputs = self.forward(self.place)
        return self.outputs


class ProcessorCard:
    """Counts its captures and replays; ``window_limit`` is the most windows that a pass has memory for."""

    device = "cpu"

    def __init__(self, window_limit: int = 10**6) -> None:
        self.window_limit = window_limit
        self.num_captured = self.num_released = self.num_tried = 0

    def upload(self, windows: NDArray[np.float32]) -> Tensor:
        if len(windows) > self.window_limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return torch.from_numpy(windows)

    def download(self, values: Tensor) -> Tensor:
        return values.clone()

    def wait(self) -> None:
        pass

    def free_bytes(self) -> int:
        return MEMORY_BYTES

    def peak_bytes(self, work: Callable[[], object]) -> int:
        work()
        self.num_tried += 1
        return self.num_tried * MEMORY_BYTES // 16  # so that a batch of two fits

    def release(self) -> None:
        self.num_released += 1
        self.num_tried = 0

    def capture(self, forward: Forward, windows: Tensor) -> CapturedPass:
        self.num_captured += 1
        return Repeated(forward, windows)
