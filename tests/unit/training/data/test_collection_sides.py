"""A field of the collection, or GTZAN's published lists, say on which side of the split a clip is."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from tests.unit.training.data.made_tracks import gtzan, no_side_of, split_tracks, tracks, valued
from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.sources.listing import make_ref
from tonearm.training.data.collection import by_id, fault_filtered, is_gtzan
from tonearm.training.data.splits import FAULT_FILTERED


@pytest.mark.parametrize(
    ("values", "settings", "sizes"),
    [
        ({0: "test", 1: "val", 2: "train", 3: "train"}, LabelSettings(split_by="s"), (4, 2, 2)),
        ({0: "1", 1: "2", 2: "3"}, LabelSettings(split_by="s", test_on=("1",), validation_on=("2",)), (2, 2, 2)),
        ({0: "1", 1: "2", 2: "3"}, LabelSettings(split_by="s", test_on=("1",), validation_share=0.0), (4, 0, 2)),
        # Others than those named are left out where the collection says itself what to train on.
        (
            {0: "train", 1: "val", 2: "extra"},
            LabelSettings(split_by="s", test_on=("val",), validation_share=0),
            (2, 0, 2),
        ),
    ],
)
def test_a_field_names_the_sides(values: dict[int, str], settings: LabelSettings, sizes: tuple[int, int, int]) -> None:
    collection = tracks({"a": 10, "b": 10}, split=values)
    found = split_tracks(collection, settings, 42)
    assert (len(found.train), len(found.validation), len(found.test)) == sizes


def test_the_fault_filtered_split_of_gtzan_is_the_published_one(shared_facts: Path) -> None:
    collection = gtzan()
    sides = fault_filtered(by_id(collection))
    collection = [
        dataclasses.replace(track, split=side) for track, side in zip(collection, sides.values(), strict=True)
    ]
    assert is_gtzan(collection)
    found = split_tracks(collection, LabelSettings(split_by=FAULT_FILTERED), 42)
    with (shared_facts / "gtzan_fault_filtered_split.csv").open(newline="") as file:
        published = {row["track"]: row["split"] for row in csv.DictReader(file)}
    assert len(published) == len(found.train) + len(found.validation) + len(found.test) == 930
    for side, numbers in found.sides().items():
        for number in numbers:
            name = collection[number].ref.uri.rpartition("/")[2].removesuffix(".wav")
            assert (
                published[name] in {"train": ("train",), "validation": ("valid", "validation"), "test": ("test",)}[side]
            )
    assert list(sides.values()).count(None) == 70


def test_a_folder_that_only_shares_a_genre_is_not_gtzan() -> None:
    assert not is_gtzan(tracks({"blues": 10, "rock": 10}))
    assert not is_gtzan([])


def test_the_usual_names_of_sides_are_known_whatever_their_case() -> None:
    collection = valued(
        "Train", "training", "VAL", "dev", "valid", "validation", "Test", "testing", "eval", "extra", None
    )
    found = split_tracks(collection, LabelSettings(split_by="s"), 42)
    assert (found.train, found.validation, found.test) == ((0, 1), (2, 3, 4, 5), (6, 7, 8))
    assert no_side_of(collection, LabelSettings(split_by="s")) == {"extra": 1, "(none)": 1}
    assert found.sides() == {"train": (0, 1), "validation": (2, 3, 4, 5), "test": (6, 7, 8)}


def test_with_named_sides_other_usual_names_have_no_meaning() -> None:
    collection = valued("1", "2", "val", "1", None)
    found = split_tracks(collection, LabelSettings(split_by="s", test_on=("2",), validation_share=0), 42)
    assert (found.train, found.validation, found.test) == ((0, 2, 3), (), (1,))
    assert no_side_of(collection, LabelSettings(split_by="s", test_on=("2",))) == {"(none)": 1}


def test_only_so_many_values_are_named() -> None:
    collection = valued(*(f"v{number}" for number in range(9)))
    with pytest.raises(SourceError) as refusal:
        split_tracks(collection, LabelSettings(split_by="s", test_on=("w",)), 42)
    assert "no clip has the split w; the values are v0, v1, v2, v3, v4, v5, v6, v7" in refusal.value.message
    assert "v8" not in refusal.value.message
    with pytest.raises(SourceError, match="no clip has the split w; the values are none"):
        split_tracks(valued(None, None), LabelSettings(split_by="s", validation_on=("w",)), 42)


@pytest.mark.parametrize(("named", "others", "is_it"), [(9, 1, True), (8, 2, False), (10, 0, True)])
def test_gtzan_is_known_by_nine_names_of_ten(named: int, others: int, is_it: bool) -> None:
    collection = [LabelledTrack(make_ref(f"/g/blues.{number:05d}.wav"), ("blues",)) for number in range(named)]
    collection += [LabelledTrack(make_ref(f"/g/other {number}.wav"), ("blues",)) for number in range(others)]
    assert is_gtzan(collection) is is_it
    assert not is_gtzan([*collection, LabelledTrack(make_ref("/g/jazz.00001.wav"), ("jazz", "bebop"))])
