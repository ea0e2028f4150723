"""The figures of an epoch equal those of the whole evaluation, and are NaN where a score is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from tests.labelled import job_of
from tests.unit.training.made_predictions import LABELS, predictions
from tonearm.models.pooling import sigmoid
from tonearm.settings import TrainSettings
from tonearm.training.fit.epoch_figures import quick
from tonearm.training.judge import metrics
from tonearm.training.judge.predictions import Predictions


@pytest.mark.parametrize("is_multi", [False, True])
def test_an_epochs_figures_are_those_of_the_whole_evaluation(is_multi: bool) -> None:
    found = predictions(is_multi=is_multi)
    figures = quick(found, job_of(TrainSettings(), LABELS, is_multi=is_multi))
    whole = metrics.evaluate(found, LABELS, is_multi=is_multi)["track"]
    names = {"macro_map", "micro_map"} if is_multi else {"accuracy", "macro_f1"}
    assert set(figures) == names | {"loss"}
    for name in names:
        assert figures[name] == pytest.approx(whole[name])
    targets = found.targets[found.owner]
    reference = sklearn.metrics.log_loss
    if is_multi:
        loss = np.mean([reference(targets[:, n], sigmoid(found.logits)[:, n], labels=[0, 1]) for n in range(5)])
    else:
        loss = reference(targets.argmax(axis=1), scipy.special.softmax(found.logits.astype(float), axis=1))
    assert figures["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("is_multi", [False, True])
def test_scores_that_are_no_numbers_give_no_figures(is_multi: bool) -> None:
    targets = np.eye(2, dtype=np.float32)
    found = Predictions(
        np.array([[1.0, 0.0], [math.nan, 0.0]], np.float32), np.arange(2), np.zeros(2), targets, np.arange(2)
    )
    job = job_of(TrainSettings(), ("a", "b"), is_multi=is_multi)
    assert all(math.isnan(value) for value in quick(found, job).values())
