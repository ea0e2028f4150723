"""A student beside its teacher: agreement, rank correlation, and the threshold below which the teacher is asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from tonearm.errors import CheckpointError
from tonearm.models.calibration import (
    Calibration,
    TonearmSidecar,
    read_fallback,
    read_sidecar,
    write_fallback,
    write_sidecar,
)
from tonearm.training.judge.agreement import average_precision, judge_agreement, resample, spearman
from tonearm.training.judge.fallback import choose_fallback
from tonearm.training.judge.predictions import Predictions

LABELS = ("a", "b", "c")


def scores(seed: int, count: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two lists with equal values among them, and a truth."""
    rng = np.random.default_rng(seed)
    first = np.round(rng.random(count), 1).astype(np.float32)
    second = np.round(first + 0.3 * rng.normal(size=count), 1).astype(np.float32)
    return first, second, rng.random(count) < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_resampled_figures_are_those_of_the_peers_on_the_repeated_tracks(seed: int) -> None:
    first, second, truth = scores(seed)
    weights = resample([str(number // 2) for number in range(30)], 6)
    found = spearman(weights, first, second), average_precision(weights, first, truth)
    for row, counts in enumerate(weights.astype(int)):
        repeated = np.repeat(np.arange(30), counts)
        assert found[0][row] == pytest.approx(spearmanr(first[repeated], second[repeated])[0], abs=1e-9)
        assert found[1][row] == pytest.approx(average_precision_score(truth[repeated], first[repeated]), abs=1e-9)


def test_tracks_of_a_group_are_drawn_together() -> None:
    weights = resample(["x", "x", "y", "z"], 50)
    np.testing.assert_array_equal(weights[0], 1)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    assert not np.array_equal(weights[:, 0], weights[:, 2])
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def windows(num_tracks: int = 12, seed: int = 0) -> Predictions:
    """Return what a student says of three windows a track."""
    rng = np.random.default_rng(seed)
    count = 3 * num_tracks
    logits = rng.normal(size=(count, len(LABELS))).astype(np.float32) * 2
    owner, targets = np.repeat(np.arange(num_tracks), 3), np.zeros((num_tracks, len(LABELS)), np.float32)
    return Predictions(logits, owner, np.tile([0.0, 1.0, 2.0], num_tracks), targets, np.arange(num_tracks))


@pytest.mark.parametrize("is_multi", [False, True])
def test_who_says_the_same_agrees_wholly_and_who_says_the_opposite_does_not(is_multi: bool) -> None:
    found = windows()
    groups = [str(clip) for clip in found.clips]
    taught = found.window_scores(is_multi=is_multi)
    same = judge_agreement(found, taught, LABELS, is_multi=is_multi, groups=groups)
    assert same["first_label"]["track"] == {"value": 1.0, "interval": [1.0, 1.0]}
    assert same["first_label"]["window"]["value"] == 1.0
    assert same["spearman"]["value"] == pytest.approx(1.0)
    assert (same["num_tracks"], same["num_windows"]) == (12, 36)
    other = judge_agreement(found, (1 - taught), LABELS, is_multi=is_multi, groups=groups)
    assert other["spearman"]["value"] == pytest.approx(-1.0)
    assert other["first_label"]["window"]["value"] == 0.0
    one = same["per_label"]["a"]["spearman"]
    assert one["interval"][0] <= one["value"] <= one["interval"][1] + 1e-9


def test_an_interval_holds_the_value_and_is_wide_where_tracks_are_few() -> None:
    found = windows(8)
    taught = found.window_scores(is_multi=False)[::-1].copy()
    figures = judge_agreement(found, taught, LABELS, is_multi=False, groups=[str(clip) for clip in found.clips])
    low, high = figures["first_label"]["track"]["interval"]
    assert low <= figures["first_label"]["track"]["value"] <= high
    assert high - low > 0.2


def test_an_interval_of_a_rare_label_holds_its_value() -> None:
    """One track in thirty has it: resamples that have this track twice would put the whole interval above the value."""
    found = windows(30, seed=3)
    taught = np.full_like(found.logits, 0.01)
    taught[found.owner == 4, 0] = 0.9
    figures = judge_agreement(found, taught, LABELS, is_multi=True, groups=[str(clip) for clip in found.clips])
    low, high = figures["map"]["interval"]
    assert figures["map"]["num_labels"] == 1
    assert low <= figures["map"]["value"] <= high < 1


def test_the_threshold_is_the_lowest_that_is_enough() -> None:
    """Of ten windows the three least sure are wrong: for 0.9 two of them must go to the teacher."""
    confidence = np.linspace(0.5, 0.95, 10, dtype=np.float32)
    student = np.stack([confidence, 1 - confidence], axis=1)
    teacher = np.tile(np.float32([0.9, 0.1]), (10, 1))
    teacher[:3] = [0.1, 0.9]
    found = choose_fallback(student, teacher, name="t", revision="r", target_agreement=0.9)
    assert found.chosen.threshold == pytest.approx(0.6)
    assert found.chosen.share_sent == pytest.approx(0.2)
    assert found.chosen.agreement == pytest.approx(0.9)
    assert found.chosen.agreement_of_kept == pytest.approx(7 / 8)
    assert choose_fallback(student, teacher, name="t", revision="r", target_agreement=0.7).chosen.threshold == 0.0
    assert choose_fallback(student, 1 - teacher, name="t", revision="r", target_agreement=1.0).chosen.share_sent == 1.0
    agreements = [point.agreement for point in found.curve]
    assert len(agreements) == 5 and agreements == sorted(agreements)


def test_the_fallback_is_kept_beside_what_is_there(tmp_path: Path) -> None:
    student = np.float32([[0.9, 0.1], [0.4, 0.6]])
    found = choose_fallback(student, student, name="yamnet", revision="sha256:1", target_agreement=0.95)
    assert read_fallback(tmp_path) is None
    (tmp_path / "tonearm.json").write_text(json.dumps({"schema": 1, "window_s": 1.0, "theirs": 3}))
    write_fallback(tmp_path, found)
    assert read_fallback(tmp_path) == found
    write_sidecar(tmp_path, TonearmSidecar(1.0, Calibration(1.5, {}, 0.9)))
    assert read_fallback(tmp_path) == found
    values = json.loads((tmp_path / "tonearm.json").read_text())
    assert (values["theirs"], values["fallback"]["schema"], read_sidecar(tmp_path).window_s) == (3, 1, 1.0)


@pytest.mark.parametrize("change", [{"schema": 2}, {"threshold": "x"}, {"curve": None}, {"confidence": "entropy"}])
def test_a_fallback_that_cannot_be_understood_is_one_line(tmp_path: Path, change: dict[str, object]) -> None:
    student = np.float32([[0.9, 0.1]])
    write_fallback(tmp_path, choose_fallback(student, student, name="t", revision="r", target_agreement=0.5))
    values = json.loads((tmp_path / "tonearm.json").read_text())
    values["fallback"] |= change
    (tmp_path / "tonearm.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="fallback"):
        read_fallback(tmp_path)
