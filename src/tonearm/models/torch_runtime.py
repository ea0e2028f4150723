"""Forward passes in eager torch: on processors, and what ``cuda.runtime`` adds to on a card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.models.autocast import autocast, autocast_type
from tonearm.models.families import family_of
from tonearm.models.window_scores import WindowScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Outputs(NamedTuple):
    """What a forward pass gives: logits [B, labels] and embedding [B, dim], still on the device."""

    logits: Tensor
    embedding: Tensor


class WithEmbedding(nn.Module):
    """A classifier that also returns its embedding, taken from the layer that its family names."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._seen: list[Tensor] = []
        family_of(model.config.model_type).watch_embedding(model, self._seen.append)

    def forward(self, **features: Tensor) -> Outputs:
        """Return what the model gives for a batch of its features."""
        # A pass that failed may have left its embedding behind.
        self._seen.clear()
        logits = self.model(**features).logits
        return Outputs(logits, self._seen.pop())


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

    def run_all(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[WindowScores]:
        """Run batches in order."""
        return map(self.run, batches)

    def run(self, windows: NDArray[np.float32]) -> WindowScores:
        """Run one batch."""
        with torch.inference_mode():
            inputs = self.features(torch.from_numpy(windows).to(self.device))
            with autocast(self.device, self.precision):
                logits, embedding = self.model(**inputs)
        return WindowScores(logits.float().cpu().numpy(), embedding.float().cpu().numpy())
