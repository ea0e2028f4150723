"""int8 is judged as the head reads the model: tags by each score, whatever the model's config says of its labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from tests.checkpoints import AST, save_small
from tonearm.models.openvino import cache
from tonearm.models.openvino.cache import Int8Check
from tonearm.planning import preparation
from tonearm.settings import TagSettings, build
from tonearm.tagging import TagPlan, plan_heads

# Every first label is the same, and a score moves by more than is allowed.
MOVED = Int8Check(20, 100, 1.0, 0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose config does not say that its labels are independent."""
    folder = save_small(tmp_path_factory.mktemp("models") / "tags", AST)
    assert json.loads((folder / "config.json").read_text()).get("problem_type") is None
    return folder


def settled(model: Path, head: str, monkeypatch: pytest.MonkeyPatch, *, is_kept: bool) -> tuple[str, list[str], Any]:
    """Return the precision that a head runs in, what was said, and how the guard was asked to read it.

    Args:
        is_kept: whether the verdict stands already; else it is found now.
    """
    other = "tag_model" if head == "genre" else "genre_model"
    models = {other: None, f"{head.removesuffix('s')}_model": str(model), "precision": "int8"}
    settings = build(TagSettings, {"models": models})
    heads = plan_heads(settings.models, max_windows=None, max_scored_s=100.0)
    form, asked, said = mock.Mock(), {}, []
    form.settled_verdict.return_value = MOVED if is_kept else None

    def quantize(*_: Any, **named: Any) -> Int8Check:
        asked.update(named)
        return MOVED

    monkeypatch.setattr(preparation.select, "convert", lambda *_: preparation.select.Conversion(form))
    monkeypatch.setattr(preparation, "_calibration_windows", lambda *_: {head: np.zeros((120, 10), np.float32)})
    monkeypatch.setattr(cache, "quantize", quantize)
    plan = preparation.prepare(TagPlan(heads, settings.models, 100.0), settings, [], said.append)
    return plan.heads[head].precision, said, asked.get("is_multi")


@pytest.mark.parametrize("is_kept", [False, True])
def test_moved_scores_of_a_tags_head_are_judged(model: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool) -> None:
    precision, said, is_multi = settled(model, "tags", monkeypatch, is_kept=is_kept)
    assert precision != "int8"
    if not is_kept:
        assert is_multi
        assert "a score moves by 0.100, expected at most 0.03" in said[-1]


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_genre_head_is_judged_by_its_first_label(model: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool) -> None:
    precision, _, is_multi = settled(model, "genre", monkeypatch, is_kept=is_kept)
    assert precision == "int8"
    assert is_kept or not is_multi
