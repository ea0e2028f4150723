"""Clips that are left out of a training are counted by the reason, and the plan says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labelled import planned, train_settings
from tests.unit.training.tables import write_table
from tonearm.training.data.omitted import Omitted


@pytest.mark.processes
def test_clips_on_no_side_and_without_a_label_are_counted_and_said(start: Path, cache: Path, tmp_path: Path) -> None:
    sides = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2 + ["unused"] * 3 + ["", "Extra"]
    rows = [(f"c{number}.wav", "ab"[number % 2], side) for number, side in enumerate(sides)]
    table = write_table(tmp_path / "sounds", [*rows, ("bare.wav", "", "train")])
    run = planned(table, train_settings(start, cache, labels={"split_by": "split", "skip_unlabelled": True}))
    assert {name: len(clips) for name, clips in run.split.sides().items()} == {
        "train": 6, "validation": 2, "test": 2
    }  # fmt: skip
    assert run.omitted == Omitted({"unused": 3, "(none)": 1, "Extra": 1}, 1, 0, 0)
    said = [
        "5 clips were left out, since `split` puts them on no side of the split: unused (3), (none) (1), Extra (1).",
        "1 clip was left out without a label.",
    ]
    assert run.omitted.lines("split") == said
    assert [note for note in run.notes if "left out" in note] == said
