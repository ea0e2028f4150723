"""Forward passes on a GPU: features there too, weights in half precision, a CUDA graph for each shape that recurs."""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.errors import first_line
from tonearm.models.autocast import autocast_type
from tonearm.models.cuda import agreement
from tonearm.models.cuda.card import CapturedPass, Card, is_out_of_memory
from tonearm.models.torch_runtime import Outputs, TorchRuntime
from tonearm.models.window_scores import WindowScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# How many graphs are kept, by shape: the full batch, and the last ones of blocks. Each holds its own activations, so
# more of them would take memory from batches.
NUM_GRAPHS = 3
# The share of the memory that is free after loading that a batch may take. The rest is for the other head and for what
# the allocator loses.
MEMORY_SHARE = 0.4
MAX_BATCH = 256


class CudaRuntime(TorchRuntime):
    """torch on a CUDA device; ``self_check.load_checked`` makes one whose results were compared with fp32's.

    A batch is copied to the GPU while the one before it is scored. A graph is used only if its replays equal eager
    passes over the same windows. A model that cannot be captured (its extractor runs on the CPU, or it reads a number
    back from the device) runs eagerly, as does one with a graph that was wrong.

    Attributes:
        note: why it does not run as requested; empty if it does.
        fell_back: whether it computes in fp32 because the requested precision gives wrong scores here.
    """

    def __init__(self, model: PreTrainedModel, features: nn.Module, card: Card) -> None:
        super().__init__(model, features, "fp32", card.device)
        self.card = card
        self.uses_graphs = True
        self.graphs: collections.OrderedDict[tuple[int, ...], CapturedPass | None] = collections.OrderedDict()
        self.seen: collections.Counter[tuple[int, ...]] = collections.Counter()
        self.note, self.fell_back = "", False

    @property
    def passes(self) -> str:
        """``graphs`` or ``eager``."""
        return "graphs" if self.uses_graphs else "eager"

    def lower(self, precision: str) -> None:
        """Compute in a half precision from now on."""
        # Cast once here: autocast would cast every weight again in each pass.
        self.precision, self.dtype = precision, autocast_type(precision)
        self.model.to(self.dtype)

    def add_note(self, note: str) -> None:
        """Append to ``note``."""
        self.note = "; ".join(filter(None, (self.note, note)))

    def end_graphs(self, why: str = "") -> None:
        """Run eagerly from now on."""
        self.uses_graphs = False
        self.graphs.clear()
        if why:
            self.add_note(f"without graphs: {why}")

    def fitting_batch(self, window_samples: int) -> int:
        """Return the largest power of two of windows that a pass has memory for, found by trying."""
        free, batch = self.card.free_bytes(), 1
        while batch < MAX_BATCH:
            silence = functools.partial(torch.zeros, batch, window_samples, device=self.device)
            try:
                # The windows are allocated inside the measurement: there may be no memory for them either.
                took = self.card.peak_bytes(lambda silence=silence: self._eager_pass(silence()))  # type: ignore[misc]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                batch = max(1, batch // 2)
                break
            # The next size takes twice as much, and a captured graph holds as much again.
            if 4 * took > MEMORY_SHARE * free:
                break
            batch *= 2
        self.card.release()
        return batch

    def run(self, windows: NDArray[np.float32]) -> WindowScores:
        """Run one batch."""
        return next(self.run_all([windows]))

    def run_all(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[WindowScores]:
        """Run batches in order, each copied there while the one before it is scored."""
        with torch.inference_mode():
            # One wait for all: a wait per batch would keep the next upload from overlapping with scoring.
            outputs = [self._download(self._score(self.card.upload(windows))) for windows in batches]
            self.card.wait()
        return iter([_to_numpy(output) for output in outputs])

    def run_eagerly(self, windows: NDArray[np.float32], batch_size: int) -> WindowScores:
        """Run windows float32 [B, S] in batches and without graphs."""
        parts = []
        with torch.inference_mode():
            for first in range(0, len(windows), batch_size):
                outputs = self._download(self._eager_pass(self.card.upload(windows[first : first + batch_size])))
                self.card.wait()
                parts.append(_to_numpy(outputs))
        logits = np.concatenate([part.logits for part in parts])
        return WindowScores(logits, np.concatenate([part.embedding for part in parts]))

    def check_graph(self, num_windows: int, num_samples: int) -> None:
        """Capture the pass over a batch of this shape now, and run eagerly from now on if that cannot be relied on."""
        shape = (num_windows, num_samples)
        with torch.inference_mode():
            graph = self._capture(shape)
        if graph is not None:
            self.seen[shape] += 1
            self.graphs[shape] = graph
        elif self.uses_graphs:
            self.end_graphs("no memory to check one")

    def _score(self, windows: Tensor) -> Outputs:
        shape = tuple(windows.shape)
        self.seen[shape] += 1
        # Most odd shapes come only once, and capturing takes several passes.
        if self.uses_graphs and shape not in self.graphs and self.seen[shape] > 1:
            while len(self.graphs) >= NUM_GRAPHS:
                self.graphs.popitem(last=False)
            graph = self._capture(shape)
            if self.uses_graphs:
                self.graphs[shape] = graph
        if not self.uses_graphs or (captured := self._recent_graph(shape)) is None:
            return self._eager_pass(windows)
        return captured.replay(windows)

    def _recent_graph(self, shape: tuple[int, ...]) -> CapturedPass | None:
        if shape not in self.graphs:
            return None
        self.graphs.move_to_end(shape)
        return self.graphs[shape]

    def _capture(self, shape: tuple[int, ...]) -> CapturedPass | None:
        """Return the captured and checked pass over windows of a shape; None if there is no memory for it.

        If it cannot be captured or is wrong, graphs are not used from now on.
        """
        first, second = (self.card.upload(batch) for batch in agreement.check_batches(*shape))
        try:
            graph = self.card.capture(self._eager_pass, first)
            # The second batch first: the graph still holds the outputs of its capture, which was of the first, so a
            # replay that does nothing would pass for right.
            replayed = [self._download(graph.replay(windows)) for windows in (second, first)]
            eager = [self._download(self._eager_pass(windows)) for windows in (second, first)]
            self.card.wait()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                self.end_graphs(f"capturing fails: {first_line(error)}")
            return None
        of_second, of_first = (_to_numpy(outputs) for outputs in eager)
        for outputs, expected, others in ((replayed[0], of_second, of_first), (replayed[1], of_first, of_second)):
            if why := agreement.replay_failure(_to_numpy(outputs), expected, self.precision, others=others):
                self.end_graphs(why)
                return None
        return graph

    def _eager_pass(self, windows: Tensor) -> Outputs:
        with torch.inference_mode(), _ieee_convolutions():
            inputs = self.features(windows)
            if self.dtype is not None:
                inputs = {
                    name: value.to(self.dtype) if value.is_floating_point() else value for name, value in inputs.items()
                }
            logits, embedding = self.model(**inputs)
        return Outputs(logits.float(), embedding.float())

    def _download(self, outputs: Outputs) -> Outputs:
        return Outputs(self.card.download(outputs.logits), self.card.download(outputs.embedding))


def _to_numpy(outputs: Outputs) -> WindowScores:
    return WindowScores(outputs.logits.numpy(), outputs.embedding.numpy())


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
