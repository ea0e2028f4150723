"""The result of a finished run, read from its last snapshot: the best weights and their predictions for each side."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tonearm.errors import TrainingError
from tonearm.training.fit.job import TrainingJob
from tonearm.training.fit.snapshot import PREDICTIONS, Progress, read_snapshot
from tonearm.training.judge.metrics import evaluate
from tonearm.training.judge.predictions import Predictions, read_predictions


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        weights: the weights that are kept, by name.
        predictions: by held-out side.
        run: facts of the run's start event: device, precision and the reason for it, workers.
    """

    job: TrainingJob
    progress: Progress
    weights: dict[str, Any]
    predictions: dict[str, Predictions]
    run: dict[str, Any]

    def figures(self) -> dict[str, Any]:
        """Return all figures of each held-out side.

        Clips with a score that is not a number are left out and counted in ``num_failed``, as in ``tonearm evaluate``.
        """
        job, figures = self.job, {}
        for side, predictions in sorted(self.predictions.items(), reverse=True):
            # scikit-learn raises ValueError for NaN.
            scored = predictions.scored()
            if len(scored):
                side_figures = evaluate(predictions.only(scored), job.labels, is_multi=job.is_multi)
                figures[side] = side_figures | {"num_failed": len(predictions.targets) - len(scored)}
        return figures


def read_result(folder: Path, job: TrainingJob, run: dict[str, Any]) -> Result:
    """Return the result in the last snapshot of a run of ``job``.

    Raises:
        TrainingError: the snapshot has no weights to keep.
    """
    snapshot = read_snapshot(folder)
    if snapshot.best_weights is None:
        raise TrainingError("training ended without weights to keep; this is a bug, please report it")
    predictions = {}
    if (folder / PREDICTIONS).is_file():
        sides = {"validation": job.validation, "test": job.test}
        clips = {name: [example.clip for example in side] for name, side in sides.items()}
        predictions = read_predictions(folder / PREDICTIONS, clips)
    return Result(job, snapshot.progress, snapshot.best_weights, predictions, run)
