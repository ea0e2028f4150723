"""Forward passes in torch: eager on processors, half precision and CUDA graphs on a GPU."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.models.autocast import autocast, autocast_type
from tonearm.models.families import family_of
from tonearm.models.runtimes import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# How many CUDA graphs are kept, by shape: the full batch, and the last ones of blocks. Each holds its own activations,
# so more of them would take memory from batches.
NUM_GRAPHS = 3
# The share of the memory that is free after loading that a batch may take. The rest is for the other head and for what
# the allocator loses.
MEMORY_SHARE = 0.4
MAX_BATCH = 256


class WithEmbedding(nn.Module):
    """A classifier that also returns its embedding, taken from the layer that its family names."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._seen: list[Tensor] = []
        family_of(model.config.model_type).watch_embedding(model, self._seen.append)

    def forward(self, **features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, labels] and embedding [B, dim]."""
        # A pass that failed may have left its embedding behind.
        self._seen.clear()
        logits = self.model(**features).logits
        return logits, self._seen.pop()


class TorchRuntime:
    """Eager torch, the reference that the other runtimes must equal.

    Args:
        num_threads: of a forward pass on a processor.
    """

    name = "torch"

    def __init__(
        self,
        model: PreTrainedModel,
        features: nn.Module,
        precision: str,
        device: str,
        *,
        num_threads: int | None = None,
    ) -> None:
        if num_threads is not None:
            # Ray sets OMP_NUM_THREADS to an actor's logical CPUs, which are not its cores.
            torch.set_num_threads(num_threads)
        self.precision, self.device = precision, device
        self.model, self.features = WithEmbedding(model).to(device).eval(), features.to(device)
        self.dtype = autocast_type(precision)
        self.features_s = 0.0

    def run_all(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[Scores]:
        """Run batches in order."""
        return map(self.run, batches)

    def run(self, windows: NDArray[np.float32]) -> Scores:
        """Run one batch."""
        with torch.inference_mode():
            inputs = self.features(torch.from_numpy(windows).to(self.device))
            with autocast(self.device, self.precision):
                logits, embedding = self.model(**inputs)
        return logits.float().cpu().numpy(), embedding.float().cpu().numpy()


class CudaRuntime(TorchRuntime):
    """torch on a CUDA device: features there too, weights in half precision, a CUDA graph for each repeated shape.

    Windows are copied through pinned memory on a second stream while the batch before them is scored. A model that
    cannot be captured (its extractor runs on the CPU, or it reads a number back from the device) runs eagerly.
    """

    def __init__(self, model: PreTrainedModel, features: nn.Module, precision: str, device: str) -> None:
        super().__init__(model, features, precision, device)
        if self.dtype is not None:
            # Once, where autocast would cast every weight again in each pass.
            self.model.to(self.dtype)
        self.copies = torch.cuda.Stream(device)
        self.graphs: collections.OrderedDict[tuple[int, ...], _Graph | None] = collections.OrderedDict()
        self.seen: collections.Counter[tuple[int, ...]] = collections.Counter()

    def fitting_batch(self, window_samples: int) -> int:
        """Return the largest power of two of windows that a pass has memory for, found by trying."""
        free, _ = torch.cuda.mem_get_info(self.device)
        batch = 1
        while batch < MAX_BATCH:
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            try:
                self._eager(torch.zeros(batch, window_samples, device=self.device))
            except torch.cuda.OutOfMemoryError:
                batch = max(1, batch // 2)
                break
            took = torch.cuda.max_memory_allocated(self.device) - before
            # The next size takes twice as much, and a captured graph holds as much again.
            if 4 * took > MEMORY_SHARE * free:
                break
            batch *= 2
        torch.cuda.empty_cache()
        return batch

    def run(self, windows: NDArray[np.float32]) -> Scores:
        """Run one batch."""
        return next(self.run_all([windows]))

    def run_all(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[Scores]:
        """Run batches in order, each copied there while the one before it is scored."""
        current, answers = torch.cuda.current_stream(self.device), []
        with torch.inference_mode():
            for windows in batches:
                pinned = torch.from_numpy(windows).pin_memory()
                with torch.cuda.stream(self.copies):
                    there = pinned.to(self.device, non_blocking=True)
                current.wait_stream(self.copies)
                # Or the allocator would give its memory to the next copy while this batch is being scored.
                there.record_stream(current)
                logits, embedding = self._score(there)
                answers.append((_to_host(logits), _to_host(embedding)))
            current.synchronize()
        return iter([(logits.numpy(), embedding.numpy()) for logits, embedding in answers])

    def _score(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        shape = tuple(windows.shape)
        self.seen[shape] += 1
        if shape not in self.graphs:
            # Most odd shapes come only once, and capturing takes several passes.
            if self.seen[shape] < 2:
                return self._eager(windows)
            while len(self.graphs) >= NUM_GRAPHS:
                self.graphs.popitem(last=False)
            self.graphs[shape] = _Graph.capture(self._eager, windows)
        self.graphs.move_to_end(shape)
        graph = self.graphs[shape]
        return self._eager(windows) if graph is None else graph.replay(windows)

    def _eager(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(), _ieee_convolutions():
            inputs = self.features(windows)
            if self.dtype is not None:
                inputs = {
                    name: value.to(self.dtype) if value.is_floating_point() else value for name, value in inputs.items()
                }
            logits, embedding = self.model(**inputs)
        return logits.float(), embedding.float()


@contextlib.contextmanager
def _ieee_convolutions() -> Iterator[None]:
    """Compute convolutions of fp32 in fp32."""
    # By default cuDNN computes them in TF32, whose scores are off by up to 0.4%.
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


class _Graph:
    """One captured forward pass, with a fixed input tensor and fixed output tensors."""

    def __init__(self, graph: torch.cuda.CUDAGraph, place: Tensor, outputs: tuple[Tensor, Tensor]) -> None:
        self.graph, self.place, self.outputs = graph, place, outputs

    @classmethod
    def capture(cls, forward: Callable[[Tensor], tuple[Tensor, Tensor]], windows: Tensor) -> _Graph | None:
        place = windows.clone()
        side = torch.cuda.Stream(windows.device)
        side.wait_stream(torch.cuda.current_stream(windows.device))
        try:
            with torch.cuda.stream(side):
                # cuBLAS and cuDNN choose algorithms and allocate in their first passes, which a capture does not allow.
                for _ in range(2):
                    forward(place)
            torch.cuda.current_stream(windows.device).wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = forward(place)
        except RuntimeError:
            torch.cuda.synchronize(windows.device)
            return None
        return cls(graph, place, outputs)

    def replay(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        self.place.copy_(windows)
        self.graph.replay()
        logits, embedding = self.outputs
        # Copied: the next replay writes over them.
        return logits.clone(), embedding.clone()


def _to_host(values: Tensor) -> Tensor:
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)
