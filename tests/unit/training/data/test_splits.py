"""Splits that one can trust: every class on both sides, no group on both, every clip on one at most."""

from __future__ import annotations

import pytest

from tests.unit.training.data.made_tracks import labelled, split_tracks, straddling_groups, tracks, valued
from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.training.data.splits import FAULT_FILTERED, Split


def test_groups_that_a_given_split_divides_are_named() -> None:
    collection = tracks({"a": 20, "b": 20}, group_size=20, split={0: "test", **dict.fromkeys(range(1, 10), "train")})
    found = split_tracks(collection, LabelSettings(split_by="fold", test_on=("test",), validation_share=0.0), 42)
    assert straddling_groups(collection, found) == ["a 0", "b 0"]


def test_the_validation_clips_come_from_the_training_side_where_none_are_named() -> None:
    collection = tracks({"a": 20, "b": 20}, split={0: "5", **dict.fromkeys(range(1, 10), "1")})
    found = split_tracks(collection, LabelSettings(split_by="s", test_on=("5",)), 42)
    assert (len(found.train), len(found.validation), len(found.test)) == (32, 4, 4)
    assert {collection[number].split for number in found.test} == {"5"}


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        ({"a": 10, "b": 1}, LabelSettings(), "class b has 1 clip"),
        ({"a": 10, "b": 10}, LabelSettings(split_by="s", test_on=("7",)), "no clip has the split 7"),
        ({"a": 10, "b": 10}, LabelSettings(split_by=FAULT_FILTERED), "not GTZAN"),
    ],
)
def test_what_cannot_be_split_is_said(counts: dict[str, int], settings: LabelSettings, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        split_tracks(tracks(counts, split={0: "1", 1: "2"}), settings, 42)


def test_without_a_share_nothing_is_held_out() -> None:
    collection = tracks({"a": 3, "b": 1})
    with pytest.raises(SourceError, match="class b has 1 clip"):
        split_tracks(collection, LabelSettings(), 42)
    found = split_tracks(
        tracks({"a": 10}, split={0: "test", **dict.fromkeys(range(1, 10), "train")}),
        LabelSettings(split_by="s", validation_share=0),
        42,
    )
    assert (len(found.train), len(found.validation), len(found.test)) == (9, 0, 1)


def test_a_split_that_leaves_a_side_empty_names_the_values() -> None:
    collection = valued(*["one"] * 3, *["two"] * 2, None)
    with pytest.raises(SourceError) as refusal:
        split_tracks(collection, LabelSettings(split_by="s"), 42)
    assert "leaves 0 clips to learn from and 0 to evaluate on" in refusal.value.message
    assert "the values are one (3), two (2), (none) (1)" in refusal.value.message
    with pytest.raises(SourceError, match="leaves 5 clips to learn from and 0 to evaluate on"):
        split_tracks(valued(*["train"] * 5), LabelSettings(split_by="s", validation_share=0), 42)
    with pytest.raises(SourceError, match="leaves 0 clips to learn from and 3 to evaluate on"):
        split_tracks(valued("val", "test", "test"), LabelSettings(split_by="s"), 42)


def test_groups_straddle_between_training_and_either_other_side() -> None:
    collection = labelled(*[(("a",), group) for group in ("x", "x", "y", "y", "z", None, None)])
    assert straddling_groups(collection, Split((0, 2, 5), (1,), (3, 6))) == ["x", "y"]
    assert straddling_groups(collection, Split((0, 1), (2,), (3, 4))) == []
