"""Forward passes in torch: eager on processors, half precision and CUDA graphs on a GPU."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.models.families import family_of
from tonearm.models.runtimes import Scores

# Shapes whose CUDA graph is kept: the full batch, and the last ones of a block. Each holds its own activations.
NUM_GRAPHS = 3
# Of what is free after loading, the share that a batch may take: the rest is for the other head and the allocator.
MEMORY_SHARE = 0.4
MAX_BATCH = 256


class WithEmbedding(nn.Module):
    """A classifier that gives its embedding too, where its family says that it is."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._seen: list[Tensor] = []
        family_of(model.config.model_type).watch_embedding(model, self._seen.append)

    def forward(self, **features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, labels] and embedding [B, dim]."""
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
        self, model: nn.Module, features: nn.Module, precision: str, device: str, *, num_threads: int | None = None
    ) -> None:
        if num_threads is not None:
            # Ray sets OMP_NUM_THREADS to an actor's logical CPUs, which are not its cores.
            torch.set_num_threads(num_threads)
        self.precision, self.device = precision, device
        self.model, self.features = WithEmbedding(model).to(device).eval(), features.to(device)
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self.features_s = 0.0

    def run_all(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[Scores]:
        """Run batches in order."""
        return map(self.run, batches)

    def run(self, windows: NDArray[np.float32]) -> Scores:
        """Run one batch."""
        with torch.inference_mode():
            inputs = self.features(torch.from_numpy(windows).to(self.device))
            with torch.autocast(self.device.split(":")[0], dtype=self.dtype, enabled=self.dtype is not None):
                logits, embedding = self.model(**inputs)
        return logits.float().cpu().numpy(), embedding.float().cpu().numpy()


class CudaRuntime(TorchRuntime):
    """torch on a CUDA device: weights in half precision, features there too, a CUDA graph for each shape that repeats.

    Windows cross in pinned memory on a stream of their own while the batch before them is scored. Where a model cannot
    be captured (its extractor runs on the CPU, or it asks the device for a number on the way) it runs eagerly.
    """

    def __init__(self, model: nn.Module, features: nn.Module, precision: str, device: str) -> None:
        super().__init__(model, features, precision, device)
        if self.dtype is not None:
            self.model.to(self.dtype)  # autocast would cast every weight again at every pass
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
                there.record_stream(current)
                logits, embedding = self._score(there)
                answers.append((_to_host(logits), _to_host(embedding)))
            current.synchronize()
        return iter([(logits.numpy(), embedding.numpy()) for logits, embedding in answers])

    def _score(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        shape = tuple(windows.shape)
        self.seen[shape] += 1
        if shape not in self.graphs:
            if self.seen[shape] < 2:  # most odd shapes come once, and capturing takes several passes
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
    """Convolve fp32 in fp32: cuDNN would do it in TF32, which is 0.4% off where fp32 was asked for."""
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


class _Graph:
    """One captured forward pass: fixed places for what goes in and comes out."""

    def __init__(self, graph: Any, place: Tensor, outputs: tuple[Tensor, Tensor]) -> None:
        self.graph, self.place, self.outputs = graph, place, outputs

    @classmethod
    def capture(cls, forward: Any, windows: Tensor) -> _Graph | None:
        place = windows.clone()
        side = torch.cuda.Stream(windows.device)
        side.wait_stream(torch.cuda.current_stream(windows.device))
        try:
            with torch.cuda.stream(side):
                for _ in range(2):  # cuBLAS and cuDNN choose and allocate before the capture
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
        return logits.clone(), embedding.clone()  # the next replay writes over them


def _to_host(values: Tensor) -> Tensor:
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)
