"""The figures of the evaluation at the end of an epoch."""

from __future__ import annotations

import math

import numpy as np
import torch

from tonearm.training.fit.job import TrainingJob
from tonearm.training.fit.step import clip_losses
from tonearm.training.judge import metrics
from tonearm.training.judge.predictions import Predictions


def quick(predictions: Predictions, job: TrainingJob) -> dict[str, float]:
    """Return the figures by which epochs are compared: of tracks, except the loss, which is of windows.

    If any score is NaN, all figures are.
    """
    # scikit-learn raises on NaN, and an evaluation whose figures are NaN is never the best one.
    if not np.isfinite(predictions.logits).all():
        names = ("macro_map", "micro_map") if job.is_multi else ("accuracy", "macro_f1")
        return dict.fromkeys(("loss", *names), math.nan)
    logits = torch.from_numpy(np.ascontiguousarray(predictions.logits, np.float32))
    targets = torch.from_numpy(job.window_targets(predictions))
    figures = {"loss": float(clip_losses(logits, targets, job).mean())}
    scores = predictions.track_scores(is_multi=job.is_multi)
    if job.is_multi:
        figures_of_tags = metrics.multi_label_figures(scores, predictions.targets)
        return figures | {name: value for name, value in figures_of_tags.items() if name.endswith("_map")}
    truth, predicted = predictions.targets.argmax(axis=1), scores.argmax(axis=1)
    macro_f1 = metrics.macro_f1(truth, predicted, scores.shape[1])
    return figures | {"accuracy": float(np.mean(truth == predicted)), "macro_f1": macro_f1}
