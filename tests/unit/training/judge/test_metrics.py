"""The figures are those of scikit-learn, torchmetrics and the papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics

from tests.unit.training.made_predictions import LABELS, predictions
from tonearm.models.pooling import sigmoid, softmax
from tonearm.training.judge import metrics


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


def test_confidence_is_the_score_of_the_prediction() -> None:
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
