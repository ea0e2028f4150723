"""A plan of some heads decodes for these, and a worker loads what was planned or refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tonearm import demo
from tonearm.errors import CheckpointError
from tonearm.models import runtimes
from tonearm.planning import adoption
from tonearm.planning.preparation import settle
from tonearm.settings import ModelSettings
from tonearm.tagging import TagPlan, load_head, plan_heads

MODELS = ModelSettings(**demo.models())


@pytest.fixture(scope="module")
def plan() -> TagPlan:
    return TagPlan(plan_heads(MODELS, max_windows=None, max_scored_s=14400.0), MODELS, 14400.0)


def test_a_plan_of_some_heads_decodes_for_these(plan: TagPlan) -> None:
    assert list(plan.only(["tags"]).heads) == ["tags"]
    assert plan.only(["tags"]).decode_request().plans == (plan.heads["tags"].windows,)
    assert set(plan.facts()) == {"read", "genre", "tags"}
    assert "precision" not in plan.facts()["genre"], "which is not settled yet"
    assert "calibration" in plan.facts()["genre"]
    assert plan.facts()["tags"]["top_tags"] == MODELS.top_tags


def test_hub_ids_are_pinned_and_folders_are_checked(plan: TagPlan, tmp_path: Path) -> None:
    head = plan.heads["genre"]
    assert head.revision is None, "a folder has none"
    pinned = dataclasses.replace(head, source="owner/model")
    assert pinned.revision == head.checkpoint.revision


def planned(**models: Any) -> TagPlan:
    return adoption.planned(ModelSettings(**{**demo.models(), **models}), None, 14400.0)


def test_a_worker_that_would_load_another_revision_refuses() -> None:
    plan = settle(planned(), "cpu")
    head = plan.heads["genre"]
    info = dataclasses.replace(head.checkpoint, revision="sha256:elsewhere")
    with pytest.raises(
        CheckpointError, match=r"holds revision sha256:.* but the run was planned with sha256:elsewhere"
    ):
        load_head("genre", dataclasses.replace(head, checkpoint=info), plan.models)


def test_a_worker_that_would_run_in_another_precision_refuses() -> None:
    plan = settle(planned(), "cpu")
    head = dataclasses.replace(plan.heads["genre"], runtime="torch", precision="bf16")
    with (
        mock.patch.object(runtimes, "choose", lambda *_: ("torch", "fp32", "cpu")),
        pytest.raises(CheckpointError, match=r"a worker runs genre in fp32 .*planned in bf16; give precision fp32"),
    ):
        load_head("genre", head, plan.models)
    loose = dataclasses.replace(head, is_settled=False)
    with mock.patch.object(runtimes, "choose", lambda *_: ("torch", "fp32", "cpu")):
        assert load_head("genre", loose, plan.models).describe()["precision"] == "fp32"
