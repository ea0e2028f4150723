"""The collection that the built-in models are trained on: judged on songs that were not trained on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import soundfile

from tonearm.demo.collection import write_collection
from tonearm.demo.songs import GENRES, TAGS


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
