"""A temperature undoes overconfidence, and a threshold keeps the precision that it was fitted for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.training.made_predictions import LABELS, predictions
from tonearm.training.judge import metrics
from tonearm.training.judge.calibration import fit, fit_temperature, threshold_for
from tonearm.training.judge.evaluation import cross_fitted_scores


@pytest.mark.parametrize("is_multi", [False, True])
def test_a_temperature_undoes_overconfidence(is_multi: bool) -> None:
    sharp = predictions(is_multi=is_multi, num_tracks=2000, sharpness=3.0)
    plain = fit_temperature(predictions(is_multi=is_multi, num_tracks=2000), is_multi=is_multi)
    assert fit_temperature(sharp, is_multi=is_multi) == pytest.approx(3.0 * plain, rel=1e-3)
    before = metrics.evaluate(sharp, LABELS, is_multi=is_multi)["track"]["ece"]
    scores = cross_fitted_scores(sharp, is_multi=is_multi)
    after = metrics.figures_of(scores, sharp.targets, LABELS, is_multi=is_multi)["ece"]
    assert after < before


def test_a_threshold_gives_the_wanted_precision_with_the_most_recall() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    truth = np.array([True, True, False, True, True, False])
    assert threshold_for(scores, truth, 0.8) == pytest.approx(0.5)  # 4 of 5
    assert threshold_for(scores, truth, 0.9) == pytest.approx(0.8)  # 2 of 2
    assert threshold_for(scores[::-1].copy(), np.array([False] * 5 + [True])[::-1], 0.99) is None
    assert threshold_for(scores, np.zeros(6, bool), 0.5) is None


def test_every_threshold_reaches_the_target_precision() -> None:
    found = predictions(is_multi=True, num_tracks=500)
    calibration = fit(found, LABELS, is_multi=True, target_precision=0.9)
    scores = found.track_scores(is_multi=True, temperature=calibration.temperature)
    assert calibration.thresholds["e"] is None
    kept = 0
    for index, label in enumerate(LABELS):
        threshold = calibration.thresholds[label]
        if threshold is not None:
            shown = scores[:, index] >= threshold
            assert found.targets[shown, index].mean() >= 0.9
            kept += 1
    assert kept >= 3
