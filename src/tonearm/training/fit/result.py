"""What a finished run has left in its last checkpoint: the weights that are kept, and what they say of every side."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tonearm.training.fit.loop import BEST, PREDICTIONS, STATE, Progress
from tonearm.training.judge.metrics import evaluate
from tonearm.training.judge.predictions import Predictions, read_predictions
from tonearm.training.prepare import Prepared


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        weights: of the evaluation that was kept, by name.
        predictions: of each side that was held out.
        run: what the run itself said at its start: device, precision and why, workers.
    """

    progress: Progress
    weights: dict[str, Any]
    predictions: dict[str, Predictions]
    run: dict[str, Any]

    def figures(self, prepared: Prepared) -> dict[str, Any]:
        """Return every figure of each side that was held out.

        Clips without a score that is a number are counted apart, as ``tonearm evaluate`` has them.
        """
        job, figures = prepared.job, {}
        for side, found in sorted(self.predictions.items(), reverse=True):
            scored = found.scored()
            if len(scored):
                judged = evaluate(found.only(scored), job.labels, is_multi=job.is_multi)
                figures[side] = judged | {"num_failed": len(found.targets) - len(scored)}
        return figures


def read_result(folder: Path, run: dict[str, Any]) -> Result:
    """Return the result in a run's last checkpoint."""
    state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    predictions = read_predictions(folder / PREDICTIONS) if (folder / PREDICTIONS).is_file() else {}
    return Result(Progress.of(state["progress"]), load_file(folder / BEST), predictions, run)
