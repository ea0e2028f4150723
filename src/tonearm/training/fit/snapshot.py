"""A training's state on disk, from which it resumes exactly; the last one holds what the finished run has made.

::

    state.pt            where the run stands and, until it is done, the model, its optimizer, schedule and scaler
    best.safetensors    the weights that are kept, once an evaluation has been worth it
    predictions.npz     their predictions of every held-out clip, once the run is done
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
    """Where a run stands; part of every snapshot.

    Attributes:
        best, best_loss, best_epoch: of the best evaluation so far.
        kept_epoch: whose weights are kept, which with ``keep = "last"`` are not the best's.
        without_better: evaluations since the best.
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
        """Return what a snapshot says, also one of 0.1.0, whose kept epoch was its best."""
        progress = cls(**{"kept_epoch": values["best_epoch"], **values})
        # In a snapshot of 0.1.0 the best may be no number, which no evaluation would be better than.
        if progress.best is not None and not math.isfinite(progress.best):
            progress.best = None
        progress.losses = [(int(step), float(loss)) for step, loss in progress.losses]
        return progress

    def judge(self, value: float, loss: float) -> bool:
        """Take in the evaluation of the present epoch; return whether it is the best so far.

        Of two as good the one of lower loss is better, and one that is no number is never better.
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
    """What a snapshot holds.

    Attributes:
        step_size: clips of a step over all workers.
        state: of model, optimizer, schedule and scaler by their names; empty once the run is done.
        best_weights: those that are kept.
    """

    progress: Progress
    step_size: int
    state: dict[str, Any]
    best_weights: dict[str, torch.Tensor] | None = None

    @contextlib.contextmanager
    def written(self, predictions: Mapping[str, Predictions]) -> Iterator[Path]:
        """Yield a folder that holds the snapshot, and goes at the end of the block."""
        with tempfile.TemporaryDirectory(prefix="tonearm-snapshot-") as name:
            folder = Path(name)
            values = {"progress": dataclasses.asdict(self.progress), "step_size": self.step_size, **self.state}
            torch.save(values, folder / STATE)
            if self.best_weights is not None:
                save_file({name: weight.contiguous() for name, weight in self.best_weights.items()}, folder / BEST)
            if predictions:
                write_predictions(folder / PREDICTIONS, predictions)
            yield folder


def read_snapshot(folder: Path) -> Snapshot:
    """Return the snapshot in ``folder``, also one of 0.1.0."""
    # Nothing but tensors and plain values was written. A pickle that holds more could run code, and is refused.
    values = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    progress, step_size = Progress.of(values.pop("progress")), values.pop("step_size")
    best_weights = load_file(folder / BEST) if (folder / BEST).is_file() else None
    return Snapshot(progress, step_size, values, best_weights)
