"""The figures are those of scikit-learn, torchmetrics and the papers' formulas."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import torch
import torchmetrics

from tests.labelled import job_of
from tonearm.cli.output import Output
from tonearm.cli.training.evaluate import _print_calibration
from tonearm.distributed.tagging.evaluate import store_calibration
from tonearm.models.calibration import Calibration, TonearmSidecar, read_sidecar, write_sidecar
from tonearm.models.pooling import sigmoid, softmax
from tonearm.settings import TrainSettings
from tonearm.training.data.collection import ClipId
from tonearm.training.fit.epoch_figures import quick
from tonearm.training.judge import metrics
from tonearm.training.judge.calibration import fit, fit_temperature, threshold_for
from tonearm.training.judge.evaluation import Evaluation, _facts, cross_fitted_scores, judge
from tonearm.training.judge.json_text import json_text
from tonearm.training.judge.predictions import Predictions, pool, read_predictions, write_predictions

LABELS = ("a", "b", "c", "d", "e")


def predictions(*, is_multi: bool, num_tracks: int = 120, sharpness: float = 1.0, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(num_tracks), rng.integers(1, 5, num_tracks))
    if is_multi:
        targets = (rng.random((num_tracks, 5)) < [0.5, 0.3, 0.1, 0.6, 0.0]).astype(np.float32)
    else:
        targets = np.eye(5, dtype=np.float32)[rng.integers(0, 5, num_tracks)]
    # What misleads a model about a track misleads it in most of the track's windows.
    logits = 1.2 * (2 * targets[owner] - 1) + rng.normal(0, 1.5, (num_tracks, 5))[owner]
    logits += rng.normal(0, 0.3, logits.shape)
    logits = (sharpness * logits).astype(np.float32)
    return Predictions(logits, owner, np.arange(len(owner), dtype=float), targets, np.arange(num_tracks))


@pytest.mark.parametrize("level", ["track", "window"])
def test_single_label_figures_are_scikit_learns(level: str) -> None:
    found = predictions(is_multi=False)
    figures = metrics.evaluate(found, LABELS, is_multi=False)[level]
    scores = softmax(found.logits)
    truth = found.targets.argmax(axis=1)[found.owner]
    if level == "track":
        scores = np.stack([scores[found.owner == track].mean(axis=0) for track in range(len(found.targets))])
        truth = found.targets.argmax(axis=1)
    said = scores.argmax(axis=1)
    assert figures["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, said))
    assert figures["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(truth, said, average="macro"))
    assert figures["top_3"] == pytest.approx(sklearn.metrics.top_k_accuracy_score(truth, scores, k=3))
    assert figures["confusion"] == sklearn.metrics.confusion_matrix(truth, said).tolist()
    precision, recall, _, support = sklearn.metrics.precision_recall_fscore_support(truth, said)
    for index, label in enumerate(LABELS):
        row = figures["per_class"][label]
        assert (row["precision"], row["recall"]) == pytest.approx((precision[index], recall[index]))
        assert row["support"] == support[index]
    reference = torchmetrics.CalibrationError(task="multiclass", num_classes=5, n_bins=15, norm="l1")
    assert figures["ece"] == pytest.approx(
        float(reference(torch.from_numpy(scores), torch.from_numpy(truth))), abs=1e-5
    )


def test_the_bins_of_calibration_are_closed_on_the_right() -> None:
    """A confidence of exactly 1/15 is of the first bin, as in the paper: (0, 1/15], (1/15, 2/15], ..."""
    edges = np.linspace(0, 1, 16)
    confidence = np.array([0.0, edges[1], edges[1] + 1e-9, edges[14], edges[14] + 1e-9, 1.0])
    is_right = np.array([False, True, True, False, True, True])
    bins = metrics.reliability(confidence, is_right)
    assert [edges_ for *_, edges_ in bins] == [(edges[n], edges[n + 1]) for n in (0, 1, 13, 14)]
    assert [share for share, *_ in bins] == pytest.approx([2 / 6, 1 / 6, 1 / 6, 2 / 6])
    assert [accuracy for _, _, accuracy, _ in bins] == [0.5, 1.0, 0.0, 1.0]
    assert [mean for _, mean, *_ in bins] == pytest.approx([edges[1] / 2, edges[1], edges[14], (edges[14] + 1) / 2])
    reference = torchmetrics.CalibrationError(task="binary", n_bins=15, norm="l1")
    scores = np.array([0.05, 0.1, 0.35, 0.66, 0.8, 0.95])
    expected = float(reference(torch.from_numpy(scores), torch.ones(6, dtype=torch.int64)))
    assert metrics.calibration_error(scores, np.ones(6, bool)) == pytest.approx(expected, abs=1e-6)


def test_multi_label_figures_are_scikit_learns() -> None:
    found = predictions(is_multi=True)
    figures = metrics.evaluate(found, LABELS, is_multi=True)["window"]
    scores, truth = sigmoid(found.logits)[:, :4], found.targets[found.owner].astype(int)[:, :4]
    # The fifth label is never there: neither precision nor AUC is defined for it.
    assert figures["num_labels"] == 4
    assert figures["macro_map"] == pytest.approx(
        sklearn.metrics.average_precision_score(truth, scores, average="macro")
    )
    assert figures["micro_map"] == pytest.approx(
        sklearn.metrics.average_precision_score(truth, scores, average="micro")
    )
    auc = sklearn.metrics.roc_auc_score(truth, scores, average="macro")
    assert figures["mean_auc"] == pytest.approx(auc)
    from scipy.stats import norm

    assert figures["d_prime"] == pytest.approx(np.sqrt(2) * norm.ppf(auc))
    assert "average_precision" not in figures["per_class"]["e"]


def test_the_interval_is_wilsons() -> None:
    # Agresti and Coull 1998, and any table of Wilson's interval: 8 of 10.
    assert metrics.interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    low, high = metrics.interval(10, 10)
    assert high == pytest.approx(1.0)
    assert low < 0.75


@pytest.mark.parametrize("is_multi", [False, True])
def test_a_temperature_undoes_overconfidence(is_multi: bool) -> None:
    sharp = predictions(is_multi=is_multi, num_tracks=2000, sharpness=3.0)
    plain = fit_temperature(predictions(is_multi=is_multi, num_tracks=2000), is_multi=is_multi)
    assert fit_temperature(sharp, is_multi=is_multi) == pytest.approx(3.0 * plain, rel=1e-3)
    before = metrics.evaluate(sharp, LABELS, is_multi=is_multi)["track"]["ece"]
    scores = cross_fitted_scores(sharp, is_multi=is_multi)
    after = metrics.figures_of(scores, sharp.targets, LABELS, is_multi=is_multi)["ece"]
    assert after < before


def test_each_half_is_calibrated_by_the_other() -> None:
    found = predictions(is_multi=False, num_tracks=40, sharpness=2.0)
    changed = Predictions(found.logits.copy(), found.owner, found.start_s, found.targets, found.clips)
    first = cross_fitted_scores(found, is_multi=False)
    changed.logits[changed.owner == 0] *= 50
    second = cross_fitted_scores(changed, is_multi=False)
    # One clip's change moves the temperature of the other half, but of none in its own.
    moved = np.abs(first - second).max(axis=1) > 1e-7
    assert 0 < moved[1:].sum() < len(moved) - 1


def evaluated(found: Predictions, *, is_multi: bool) -> Evaluation:
    figures, fitted, calibrated = judge(found, LABELS, is_multi=is_multi, target_precision=0.9)
    uris = tuple(f"/{number}.wav" for number in range(len(found.targets)))
    return Evaluation("m", "s", LABELS, is_multi, found, uris, {}, figures, fitted, calibrated)


@pytest.mark.parametrize("is_multi", [False, True])
def test_a_calibration_is_kept_only_where_it_helps(
    is_multi: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What makes ECE worse on the clips that it was not fitted on is not stored, and that is said."""
    before = Calibration(1.5, {}, 0.8)
    kept = []
    for seed in range(12):
        found = evaluated(predictions(is_multi=is_multi, num_tracks=24, seed=seed, sharpness=0.8), is_multi=is_multi)
        assert found.calibration is not None and found.calibrated is not None
        write_sidecar(tmp_path, TonearmSidecar(calibration=before))
        store_calibration(str(tmp_path), found)
        _print_calibration(found, str(tmp_path), 0.9, Output())
        helps = found.calibrated["track"]["ece"] < found.figures["track"]["ece"]
        assert read_sidecar(tmp_path).calibration == (found.calibration if helps else before)
        assert ("not stored: it does not help" in capsys.readouterr().out) is not helps
        assert (_facts(found)["calibration"] is not None) is helps
        kept.append(helps)
    assert any(kept) and not all(kept), "both are tried"


def test_tracks_without_a_score_that_is_a_number_are_told_apart() -> None:
    found = predictions(is_multi=True, num_tracks=30)
    found.logits[np.flatnonzero(found.owner == 7)[-1], 2] = np.nan
    found.logits[found.owner == 9] = np.inf
    scored = found.scored()
    assert sorted(set(range(30)) - set(scored.tolist())) == [7, 9]
    figures = metrics.evaluate(found.only(scored), LABELS, is_multi=True)
    assert figures["num_tracks"] == 28 and 0 <= figures["track"]["macro_map"] <= 1


def test_a_threshold_gives_the_wanted_precision_with_the_most_recall() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    truth = np.array([True, True, False, True, True, False])
    assert threshold_for(scores, truth, 0.8) == pytest.approx(0.5)  # 4 of 5
    assert threshold_for(scores, truth, 0.9) == pytest.approx(0.8)  # 2 of 2
    assert threshold_for(scores[::-1].copy(), np.array([False] * 5 + [True])[::-1], 0.99) is None
    assert threshold_for(scores, np.zeros(6, bool), 0.5) is None


def test_every_tag_gets_a_threshold_that_keeps_its_promise() -> None:
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


def test_predictions_survive_a_file(tmp_path: Path) -> None:
    found = predictions(is_multi=False)
    write_predictions(tmp_path / "p.npz", {"test": found})
    again = read_predictions(tmp_path / "p.npz", {"test": [ClipId(int(clip)) for clip in found.clips]})["test"]
    np.testing.assert_array_equal(again.logits, found.logits)
    np.testing.assert_array_equal(again.owner, found.owner)


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


def test_the_three_surest_are_only_counted_among_more_than_three() -> None:
    truth = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]]
    scores = np.array([[0.4, 0.3, 0.2, 0.1]] * 4, np.float32)
    four = metrics.figures_of(scores, truth, LABELS[:4], is_multi=False)
    assert (four["accuracy"], four["top_3"]) == (0.25, 0.75)
    assert "top_3" not in metrics.figures_of(scores[:3, :3], truth[:3, :3], LABELS[:3], is_multi=False)


def test_figures_of_tags_without_any_that_varies_are_neutral() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    always, never = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    for targets in (always, never):
        figures = metrics.figures_of(scores, targets, LABELS[:2], is_multi=True)
        expected = {"macro_map": 0.0, "micro_map": 0.0, "mean_auc": 0.5, "d_prime": 0.0, "num_labels": 0}
        assert {name: figures[name] for name in expected} == expected
        assert figures["ece"] == 0.0


def test_each_tag_has_the_figures_that_are_defined_for_it() -> None:
    scores = np.array([[0.5, 0.9], [0.49, 0.8], [0.6, 0.7]], np.float32)
    targets = np.array([[1, 1], [1, 1], [0, 1]], np.float32)
    figures = metrics.figures_of(scores, targets, LABELS[:2], is_multi=True)["per_class"]
    first, second = figures["a"], figures["b"]
    assert (first["precision"], first["recall"], first["f1"], first["support"]) == (0.5, 0.5, 0.5, 2)
    assert first["auc"] == 0.0
    assert first["average_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (second["precision"], second["recall"], second["support"]) == (1.0, 1.0, 3)
    assert "auc" not in second and "average_precision" not in second


def test_confidence_is_of_what_was_said() -> None:
    scores = np.array([[0.7, 0.3], [0.4, 0.6], [0.8, 0.2]], np.float32)
    targets = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    confidence, is_right = metrics.confidence_of(scores, targets, is_multi=False)
    assert confidence.tolist() == pytest.approx([0.7, 0.6, 0.8])
    assert is_right.tolist() == [True, False, False]
    confidence, is_right = metrics.confidence_of(scores, np.array([[1, 1], [0, 1], [1, 1]], np.float32), is_multi=True)
    assert confidence.tolist() == pytest.approx([0.7, 0.4, 0.8]), "the second tag is always there"
    assert is_right.tolist() == [True, False, True]


@pytest.mark.parametrize(("scores", "auc"), [([0.1, 0.9], 0.0), ([0.9, 0.1], 1.0)])
def test_an_auc_of_0_or_1_has_a_finite_d_prime(scores: list[float], auc: float) -> None:
    figures = metrics.figures_of(
        np.array(scores, np.float32)[:, None], np.array([[1.0], [0.0]], np.float32), LABELS[:1], is_multi=True
    )
    assert figures["mean_auc"] == auc
    assert figures["d_prime"] == pytest.approx(8.482 * (2 * auc - 1), abs=0.001)


def test_figures_are_written_as_json_whatever_they_come_to() -> None:
    values = {"loss": math.nan, "curve": [(1, math.inf), (2, 0.5)], "settings": {"max_scored_s": -math.inf, "n": 3}}
    text = json_text(values)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "loss": None,
        "curve": [[1, None], [2, 0.5]],
        "settings": {"max_scored_s": None, "n": 3},
    }
