"""What tonearm needs of a CUDA device: copies, memory, and passes captured in graphs.

``runtime.CudaRuntime`` computes on whatever ``Card`` it is given, so tests can show on a machine without a GPU what it
does when a GPU gives wrong scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tonearm.models.torch_runtime import Outputs

# From windows [B, S] on a device to logits [B, labels] and embeddings [B, dim] there.
Forward = Callable[[Tensor], Outputs]


class CapturedPass(Protocol):
    """A forward pass over windows of one shape that can be repeated on others at the cost of one launch."""

    def replay(self, windows: Tensor) -> Outputs:
        """Return what the captured pass gives for ``windows``."""
        ...


class Card(Protocol):
    """A device that computes asynchronously: calls return before the work is done."""

    device: str

    def upload(self, windows: NDArray[np.float32]) -> Tensor:
        """Return the windows on the device; the passes before may not have ended yet."""
        ...

    def download(self, values: Tensor) -> Tensor:
        """Return a tensor in host memory that has the values once ``wait`` has returned."""
        ...

    def wait(self) -> None:
        """Wait until all work so far is done."""
        ...

    def free_bytes(self) -> int:
        """Return the device's free memory."""
        ...

    def peak_bytes(self, work: Callable[[], object]) -> int:
        """Return the peak of the memory that ``work`` took, beyond what was taken before it.

        Raises:
            torch.OutOfMemoryError: there was not enough.
        """
        ...

    def release(self) -> None:
        """Give back the memory that the allocator keeps for later passes."""
        ...

    def capture(self, forward: Forward, windows: Tensor) -> CapturedPass:
        """Return the pass over windows of the shape of these, captured.

        Raises:
            RuntimeError: it cannot be captured, or there is no memory for it.
        """
        ...


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether a pass failed because memory ran out, which says nothing about whether its results are right."""
    # torch's allocator has an exception for it; cuBLAS, cuDNN and the driver only say it in a RuntimeError's text.
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text.lower() or "STATUS_ALLOC_FAILED" in text


class CudaCard:
    """A CUDA device as torch has it. Windows are copied through pinned memory on a second stream."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.copies = torch.cuda.Stream(device)

    def upload(self, windows: NDArray[np.float32]) -> Tensor:
        """See ``Card``."""
        current = torch.cuda.current_stream(self.device)
        pinned = torch.from_numpy(windows).pin_memory()
        with torch.cuda.stream(self.copies):
            there = pinned.to(self.device, non_blocking=True)
        current.wait_stream(self.copies)
        # Otherwise the allocator could give this memory to the next copy while this batch is being scored.
        there.record_stream(current)
        return there

    def download(self, values: Tensor) -> Tensor:
        """See ``Card``."""
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        return host.copy_(values, non_blocking=True)

    def wait(self) -> None:
        """See ``Card``."""
        torch.cuda.current_stream(self.device).synchronize()

    def free_bytes(self) -> int:
        """See ``Card``."""
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(free)

    def peak_bytes(self, work: Callable[[], object]) -> int:
        """See ``Card``."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device) - before

    def release(self) -> None:
        """See ``Card``."""
        torch.cuda.empty_cache()

    def capture(self, forward: Forward, windows: Tensor) -> CapturedPass:
        """See ``Card``."""
        place = windows.clone()
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        try:
            with torch.cuda.stream(side):
                # cuBLAS and cuDNN choose algorithms and allocate in their first passes, which a capture does not allow.
                for _ in range(2):
                    forward(place)
            torch.cuda.current_stream(self.device).wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = forward(place)
        except RuntimeError:
            torch.cuda.synchronize(self.device)
            raise
        return _Graph(graph, place, outputs)


class _Graph:
    """One captured forward pass, with a fixed input tensor and fixed output tensors."""

    def __init__(self, graph: torch.cuda.CUDAGraph, place: Tensor, outputs: Outputs) -> None:
        self.graph, self.place, self.outputs = graph, place, outputs

    def replay(self, windows: Tensor) -> Outputs:
        self.place.copy_(windows)
        self.graph.replay()
        # Copied: the next replay writes over them.
        return Outputs(self.outputs.logits.clone(), self.outputs.embedding.clone())
