"""Window logits become track scores, and a file gives back the predictions that were written to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.unit.training.made_predictions import LABELS, predictions
from tonearm.models.pooling import sigmoid, softmax
from tonearm.training.data.collection import ClipId
from tonearm.training.judge import metrics
from tonearm.training.judge.predictions import pool, read_predictions, write_predictions


def test_tracks_without_a_score_that_is_a_number_are_told_apart() -> None:
    found = predictions(is_multi=True, num_tracks=30)
    found.logits[np.flatnonzero(found.owner == 7)[-1], 2] = np.nan
    found.logits[found.owner == 9] = np.inf
    scored = found.scored()
    assert sorted(set(range(30)) - set(scored.tolist())) == [7, 9]
    figures = metrics.evaluate(found.only(scored), LABELS, is_multi=True)
    assert figures["num_tracks"] == 28 and 0 <= figures["track"]["macro_map"] <= 1


def test_predictions_survive_a_file(tmp_path: Path) -> None:
    found = predictions(is_multi=False)
    write_predictions(tmp_path / "p.npz", {"test": found})
    again = read_predictions(tmp_path / "p.npz", {"test": [ClipId(int(clip)) for clip in found.clips]})["test"]
    np.testing.assert_array_equal(again.logits, found.logits)
    np.testing.assert_array_equal(again.owner, found.owner)


def test_a_tracks_score_is_the_mean_of_its_own_windows() -> None:
    windows = np.array([[0.0, 1.0], [0.5, 0.0], [1.0, 0.25]], np.float32)
    pooled = pool(windows, np.array([1, 0, 1]), 2)
    assert pooled.tolist() == [[0.5, 0.0], [0.5, 0.625]]
    assert pooled.dtype == np.float32


def test_a_temperature_divides_the_logits() -> None:
    found = predictions(is_multi=False, num_tracks=3)
    np.testing.assert_allclose(
        found.window_scores(is_multi=False, temperature=4.0), softmax(found.logits / 4), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.window_scores(is_multi=True, temperature=0.5), sigmoid(found.logits * 2), rtol=1e-6
    )
    hot = metrics.evaluate(found, LABELS, is_multi=False, temperature=50.0)
    assert (hot["num_tracks"], hot["num_windows"]) == (3, len(found.logits))
    assert hot["track"]["ece"] != metrics.evaluate(found, LABELS, is_multi=False)["track"]["ece"]
