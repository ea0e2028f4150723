"""The built-in models are what ``make demo-models`` writes: small, judged on songs they have not heard, and modest."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import soundfile

from tonearm import demo
from tonearm.demo.collection import write_collection
from tonearm.demo.songs import GENRES, TAGS
from tonearm.models.checkpoint import describe_checkpoint

FOLDERS = [Path(demo.genre_model_path()), Path(demo.tag_model_path())]


def test_both_together_are_small() -> None:
    assert sum(path.stat().st_size for folder in FOLDERS for path in folder.iterdir()) < 6_000_000


def test_they_are_known_wherever_they_lie(tmp_path: Path) -> None:
    copied = shutil.copytree(demo.genre_model_path(), tmp_path / "genres")
    assert describe_checkpoint(str(copied)).revision in demo.revisions()


@pytest.mark.parametrize("folder", FOLDERS, ids=["genre", "tags"])
def test_they_bring_the_form_that_openvino_runs(folder: Path) -> None:
    """Made anew with ``python -m tonearm.models.openvino.convert`` whenever the weights change."""
    from tonearm.models.checkpoint import describe_checkpoint
    from tonearm.models.openvino import cache

    beside = cache.Converted(folder / cache.BUNDLED_FOLDER)
    assert beside.digest == describe_checkpoint(str(folder)).revision
    assert beside.facts["format"] == cache.FORMAT
    assert sum(path.stat().st_size for path in beside.folder.iterdir()) < 4_000_000


@pytest.mark.parametrize("folder", FOLDERS, ids=["genre", "tags"])
def test_they_come_from_the_recipe_and_say_what_they_know(folder: Path) -> None:
    facts = json.loads((folder / "metrics.json").read_text())
    test = facts["evaluation"]["test"]
    assert test["num_tracks"] == 8 * len(GENRES) * 4
    assert test["track"]["macro_map" if facts["is_multi"] else "accuracy"] > 0.9
    assert facts["source"] == "demo-collection/clips.csv"
    assert facts["labels"] == sorted(TAGS if facts["is_multi"] else GENRES)
    assert "It knows only synthesized music" in (folder / "README.md").read_text()


def test_the_collection_has_other_songs_to_be_judged_by(tmp_path: Path) -> None:
    table = write_collection(tmp_path, train_songs=1, test_songs=1)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(GENRES) * 4
    assert {row["genre"] for row in rows} == set(GENRES)
    sides = {side: {row["song"] for row in rows if row["split"] == side} for side in ("train", "test")}
    assert not sides["train"] & sides["test"]
    assert set(rows[0]["tags"].split(";")) <= set(TAGS)
    info = soundfile.info(tmp_path / rows[0]["file"])
    assert (info.samplerate, info.channels) == (16000, 1)
    assert info.duration == pytest.approx(10.24)
