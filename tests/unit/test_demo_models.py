"""The built-in models are what ``make demo-models`` writes: small, judged on songs they have not heard, and modest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tonearm import demo
from tonearm.demo.songs import GENRES, TAGS
from tonearm.models.checkpoint import describe_checkpoint

FOLDERS = [Path(demo.genre_model_path()), Path(demo.tag_model_path())]


def test_both_demo_models_together_are_small() -> None:
    assert sum(path.stat().st_size for folder in FOLDERS for path in folder.iterdir()) < 6_000_000


def test_demo_models_are_recognized_in_any_folder(tmp_path: Path) -> None:
    copied = shutil.copytree(demo.genre_model_path(), tmp_path / "genres")
    assert describe_checkpoint(str(copied)).revision in demo.revisions()


@pytest.mark.parametrize("folder", FOLDERS, ids=["genre", "tags"])
def test_demo_models_come_with_their_openvino_form(folder: Path) -> None:
    """Made anew with ``python -m tonearm.models.openvino.convert`` whenever the weights change."""
    from tonearm.models.checkpoint import describe_checkpoint
    from tonearm.models.openvino import cache

    beside = cache.Converted(folder / cache.BUNDLED_FOLDER)
    assert beside.digest == describe_checkpoint(str(folder)).revision
    assert beside.facts["format"] == cache.FORMAT
    assert sum(path.stat().st_size for path in beside.folder.iterdir()) < 4_000_000


@pytest.mark.parametrize("folder", FOLDERS, ids=["genre", "tags"])
def test_demo_models_match_their_recipe_and_name_their_limits(folder: Path) -> None:
    facts = json.loads((folder / "metrics.json").read_text())
    test = facts["evaluation"]["test"]
    assert test["num_tracks"] == 8 * len(GENRES) * 4
    assert test["track"]["macro_map" if facts["is_multi"] else "accuracy"] > 0.9
    assert facts["source"] == "demo-collection/clips.csv"
    assert facts["labels"] == sorted(TAGS if facts["is_multi"] else GENRES)
    assert "It knows only synthesized music" in (folder / "README.md").read_text()
