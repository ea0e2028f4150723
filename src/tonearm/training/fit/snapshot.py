"""A training's state on disk, from which it resumes exactly; the last snapshot has the result of the finished run.

::

    state.pt            the progress and, until the run is done, the model, optimizer, schedule and scaler
    best.safetensors    the weights that are kept, after the first evaluation that was worth keeping
    predictions.npz     their predictions for every held-out clip, once the run is done
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tonearm.training.judge.predictions import Predictions, write_predictions

STATE, BEST, PREDICTIONS = "state.pt", "best.safetensors", "predictions.npz"


@dataclasses.dataclass
class Progress:
    """The progress of a run; part of every snapshot.

    Attributes:
        best, best_loss, best_epoch: figure, loss and epoch of the best evaluation so far.
        kept_epoch: the epoch whose weights are kept; with ``keep = "last"`` not the best one.
        without_better: number of evaluations since the best one.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float | None = None
    best_loss: float = math.inf
    best_epoch: int = 0
    kept_epoch: int = 0
    without_better: int = 0
    is_done: bool = False
    losses: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    evaluations: list[dict[str, float]] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Progress:
        """Return the progress in a snapshot. Those of 0.1.0 have no ``kept_epoch``: it was always the best one."""
        progress = cls(**{"kept_epoch": values["best_epoch"], **values})
        # In a snapshot of 0.1.0 the best figure may be NaN, and no later one would be greater than that.
        if progress.best is not None and not math.isfinite(progress.best):
            progress.best = None
        progress.losses = [(int(step), float(loss)) for step, loss in progress.losses]
        return progress

    def judge(self, value: float, loss: float) -> bool:
        """Record the evaluation of the current epoch; return whether it is the best so far.

        Of two with equal figures, the one with the lower loss is better. NaN is never better.
        """
        is_better = math.isfinite(value) and math.isfinite(loss)
        if is_better and self.best is not None:
            is_better = (value, -loss) > (self.best, -self.best_loss)
        self.without_better = 0 if is_better else self.without_better + 1
        if is_better:
            self.best, self.best_loss, self.best_epoch = value, loss, self.epoch
        return is_better


@dataclasses.dataclass
class Snapshot:
    """A snapshot.

    Attributes:
        step_size: number of clips per step, over all workers.
        state: states of model, optimizer, schedule and scaler, by name; empty once the run is done.
        best_weights: the weights that are kept.
    """

    progress: Progress
    step_size: int
    state: dict[str, Any]
    best_weights: dict[str, torch.Tensor] | None = None

    @contextlib.contextmanager
    def written(self, predictions: Mapping[str, Predictions]) -> Iterator[Path]:
        """Yield a temporary folder with the snapshot, which is deleted at the end of the block."""
        with tempfile.TemporaryDirectory(prefix="tonearm-snapshot-") as name:
            folder = Path(name)
            values = {"progress": dataclasses.asdict(self.progress), "step_size": self.step_size, **self.state}
            torch.save(values, folder / STATE)
            if self.best_weights is not None:
                # safetensors refuses tensors that are views with gaps.
                save_file({name: weight.contiguous() for name, weight in self.best_weights.items()}, folder / BEST)
            if predictions:
                write_predictions(folder / PREDICTIONS, predictions)
            yield folder


def read_snapshot(folder: Path) -> Snapshot:
    """Return the snapshot in ``folder``; those of 0.1.0 can be read too."""
    # Only tensors and plain values were written. ``weights_only`` refuses a pickle with more, which could run code.
    values = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    progress, step_size = Progress.of(values.pop("progress")), values.pop("step_size")
    best_weights = load_file(folder / BEST) if (folder / BEST).is_file() else None
    return Snapshot(progress, step_size, values, best_weights)
