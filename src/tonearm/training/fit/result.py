"""The result of a finished run, read from its last snapshot: the kept weights and their predictions of every side."""

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
        weights: of the evaluation that was kept, by name.
        predictions: of each side that was held out.
        run: what the run itself said at its start: device, precision and why, workers.
    """

    job: TrainingJob
    progress: Progress
    weights: dict[str, Any]
    predictions: dict[str, Predictions]
    run: dict[str, Any]

    def figures(self) -> dict[str, Any]:
        """Return every figure of each side that was held out.

        Clips without a score that is a number are counted apart, as ``tonearm evaluate`` has them.
        """
        job, figures = self.job, {}
        for side, predictions in sorted(self.predictions.items(), reverse=True):
            # scikit-learn raises on a score that is no number; ``tonearm evaluate`` leaves such clips out too.
            scored = predictions.scored()
            if len(scored):
                judged = evaluate(predictions.only(scored), job.labels, is_multi=job.is_multi)
                figures[side] = judged | {"num_failed": len(predictions.targets) - len(scored)}
        return figures


def read_result(folder: Path, job: TrainingJob, run: dict[str, Any]) -> Result:
    """Return the result in the last snapshot of a run of ``job``.

    Raises:
        TrainingError: the snapshot is of a run that has not ended.
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
