"""The figures of an epoch's end."""

from __future__ import annotations

import math

import numpy as np
import torch

from tonearm.training.fit.job import TrainingJob
from tonearm.training.fit.step import clip_losses
from tonearm.training.judge import metrics
from tonearm.training.judge.predictions import Predictions


def quick(predictions: Predictions, job: TrainingJob) -> dict[str, float]:
    """Return the figures that an epoch's end needs, at track level; the loss at window level.

    Where a score is not a number, neither is any figure.
    """
    # scikit-learn raises on NaN, and an evaluation whose figures are NaN is never the best one.
    if not np.isfinite(predictions.logits).all():
        names = ("macro_map", "micro_map") if job.is_multi else ("accuracy", "macro_f1")
        return dict.fromkeys(("loss", *names), math.nan)
    logits = torch.from_numpy(np.ascontiguousarray(predictions.logits, np.float32))
    targets = torch.from_numpy(predictions.targets[predictions.owner])
    figures = {"loss": float(clip_losses(logits, targets, job).mean())}
    scores = predictions.track_scores(is_multi=job.is_multi)
    if job.is_multi:
        every = metrics.multi_label_figures(scores, predictions.targets)
        return figures | {name: value for name, value in every.items() if name.endswith("_map")}
    truth, predicted = predictions.targets.argmax(axis=1), scores.argmax(axis=1)
    macro_f1 = metrics.macro_f1(truth, predicted, scores.shape[1])
    return figures | {"accuracy": float(np.mean(truth == predicted)), "macro_f1": macro_f1}
