"""An exported graph's scores and embeddings are its own, in the precision that it can have."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.graphs import LABELS, NUM_SAMPLES, expected_scores, save_described, windows
from tonearm.errors import CheckpointError, SettingsError
from tonearm.heads import HeadSettings
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.classifier import Classifier
from tonearm.models.exported import reading
from tonearm.models.exported.kept_graph import Facts
from tonearm.models.exported.runtime import settle, to_logits
from tonearm.models.openvino.processor import has_bf16
from tonearm.models.pooling import sigmoid, softmax
from tonearm.planning.preparation import settle as settle_plan
from tonearm.settings import ModelSettings
from tonearm.tagging import TagPlan, plan_heads

pytestmark = pytest.mark.processes


def expected(rows: Any) -> Any:
    return expected_scores(np.stack([np.pad(row, (0, NUM_SAMPLES - len(row))) for row in rows]))


@pytest.mark.parametrize("is_fixed", [False, True])
def test_scores_and_embeddings_are_the_graphs_own(tmp_path: Path, is_fixed: bool) -> None:
    classifier = Classifier.load(str(save_described(tmp_path / "wave", is_fixed=is_fixed)), num_threads=2)
    assert classifier.describe() == {"runtime": "openvino", "precision": "fp32", "device": "cpu", "note": ""}
    rows = [*windows(), windows(1, 700)[0]]
    found, (scores, features) = classifier.score(rows), expected(rows)
    np.testing.assert_allclose(found.logits, scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.embedding, features, rtol=1e-4, atol=1e-4)
    alone = np.concatenate([classifier.score([row]).logits for row in rows])
    np.testing.assert_allclose(found.logits, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ending", ["sigmoid", "softmax"])
@pytest.mark.parametrize("is_multi", [True, False])
def test_scores_that_a_graph_has_applied_its_activation_to_come_out_as_they_are(
    tmp_path: Path, ending: str, is_multi: bool
) -> None:
    classifier = Classifier.load(str(save_described(tmp_path / "wave", activation=ending)), is_multi=is_multi)
    rows = windows()
    logits = expected(rows)[0]
    plain = sigmoid(logits) if ending == "sigmoid" else softmax(logits)
    found = classifier.score(rows).logits
    if is_multi:
        np.testing.assert_allclose(sigmoid(found), plain, atol=2e-6)
    elif ending == "softmax":
        np.testing.assert_allclose(softmax(found), plain, atol=2e-6)
    else:  # what softmax makes of the same logits, as with any model that was trained for many labels
        np.testing.assert_allclose(softmax(found), softmax(np.clip(logits, -16.2, 16.2)), atol=1e-3)


def test_scores_of_nothing_and_all_have_finite_logits() -> None:
    facts = Facts((), None, True, "independent", True, 1, 1, "", None, "")
    logits = to_logits(np.array([[0.0, 1.0, 0.25]], np.float32), facts, is_multi=True)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(sigmoid(logits), [[0, 1, 0.25]], atol=2e-7)


def test_a_network_that_says_something_else_than_when_it_was_read_is_refused(tmp_path: Path) -> None:
    folder = save_described(tmp_path / "wave", licence="of a third test")
    place = reading.stored_graph(str(describe_checkpoint(str(folder)).digest)).folder
    answers = np.load(place / "answers.npy")
    assert answers.shape == (3, len(LABELS))
    np.save(place / "answers.npy", answers + 0.5)
    with pytest.raises(CheckpointError, match=r"OpenVINO runs wave\.xml otherwise here than when it was read; delete"):
        Classifier.load(str(folder))


def test_precisions_that_exported_graphs_do_not_have_are_answered() -> None:
    assert settle("auto", "auto", "x") == settle("openvino", "fp32", "x") == ("fp32", "")
    assert settle("auto", "int8", "yamnet") == (
        "fp32",
        "not int8: yamnet is an exported graph, whose weights stay as they are stored",
    )
    assert settle("auto", "bf16", "x")[0] == ("bf16" if has_bf16() else "fp32")
    with pytest.raises(SettingsError, match="got runtime torch, and x is an exported graph, which OpenVINO runs"):
        settle("torch", "auto", "x")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_plan_settles_them_to_what_they_run_in(model: Path, device: str) -> None:
    models = ModelSettings(genre_model=None, tag_model=str(model), heads={"mood": HeadSettings(str(model), "single")})
    plan = TagPlan(plan_heads(models, max_windows=None, max_scored_s=60.0), models, 60.0)
    settled = settle_plan(plan, device)
    assert {(each.precision, each.is_settled) for each in settled.heads.values()} == {("fp32", True)}
    asked = dataclasses.replace(
        plan, heads={h: dataclasses.replace(p, precision="int8") for h, p in plan.heads.items()}
    )
    assert all("not int8: wave is an exported" in each.note for each in settle_plan(asked, "cpu").heads.values())
