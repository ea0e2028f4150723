"""Splits that one can trust: every class on both sides, no group on both, every clip on one at most."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.sources.listing import make_ref
from tonearm.training.data import splits
from tonearm.training.data.collection import ClipId, Collection, by_id
from tonearm.training.data.sides import FAULT_FILTERED, assign_sides, fault_filtered, is_gtzan
from tonearm.training.data.splits import Split

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


def split_tracks(tracks: list[LabelledTrack], settings: LabelSettings, seed: int) -> Split:
    """Return the split of tracks whose ids are their places in the list."""
    clips = {ClipId(place): track for place, track in enumerate(tracks)}
    sides, no_side = assign_sides(clips, settings)
    kept = {clip: track for clip, track in clips.items() if sides is None or clip in sides}
    return splits.split_collection(Collection(kept, sides, (), False, no_side, 0), settings, seed)


def no_side_of(tracks: list[LabelledTrack], settings: LabelSettings) -> dict[str, int]:
    return assign_sides({ClipId(place): track for place, track in enumerate(tracks)}, settings)[1]


def straddling_groups(tracks: list[LabelledTrack], split: Split) -> list[str]:
    return splits.straddling_groups({ClipId(place): track for place, track in enumerate(tracks)}, split)


def tracks(
    counts: dict[str, int], *, group_size: int | None = None, split: dict[int, str] | None = None
) -> list[LabelledTrack]:
    made = []
    for label, count in counts.items():
        for number in range(count):
            group = None if group_size is None else f"{label} {number // group_size}"
            made.append(
                LabelledTrack(make_ref(f"/{label}/{number}.wav"), (label,), group, (split or {}).get(number % 10))
            )
    return made


def gtzan() -> list[LabelledTrack]:
    return [
        LabelledTrack(make_ref(f"/gtzan/{genre}/{genre}.{number:05d}.wav"), (genre,))
        for genre in GENRES
        for number in range(100)
    ]


def test_stratified_holds_out_the_same_share_of_each_class_again_and_again() -> None:
    collection = tracks({"a": 40, "b": 60})
    found = split_tracks(collection, LabelSettings(), 42)
    held = Counter((collection[number].labels or ("",))[0] for number in found.validation)
    assert held == {"a": 4, "b": 6}
    assert sorted(found.train + found.validation) == list(range(100))
    assert split_tracks(collection, LabelSettings(), 42) == found
    assert split_tracks(collection, LabelSettings(), 43) != found


def test_no_group_stands_on_both_sides() -> None:
    collection = tracks({"a": 40, "b": 60}, group_size=5)
    found = split_tracks(collection, LabelSettings(group_by="artist"), 42)
    assert not straddling_groups(collection, found)
    held = Counter((collection[number].labels or ("",))[0] for number in found.validation)
    assert held["a"] >= 5
    assert held["b"] >= 5
    assert 5 <= len(found.validation) <= 20


def test_training_never_lacks_a_class_for_a_better_share() -> None:
    """Of the two halves by whole groups, one has both groups of class c, and is nearer to the share asked for."""
    groups = {"g0": "a", "g1": "acc", "g2": "aba", "g3": "abcab"}
    collection = [
        LabelledTrack(make_ref(f"/{group}/{number}.wav"), (label,), group)
        for group, labels in groups.items()
        for number, label in enumerate(labels)
    ]
    found = split_tracks(collection, LabelSettings(group_by="artist", validation_share=0.5), 42)
    assert len(found.validation) == 4 and len(found.train) == 8
    assert {(collection[number].labels or ("",))[0] for number in found.train} == {"a", "b", "c"}
    assert {collection[number].group for number in found.validation} == {"g0", "g2"}


def test_groups_that_a_given_split_divides_are_named() -> None:
    collection = tracks({"a": 20, "b": 20}, group_size=20, split={0: "test", **dict.fromkeys(range(1, 10), "train")})
    found = split_tracks(collection, LabelSettings(split_by="fold", test_on=("test",), validation_share=0.0), 42)
    assert straddling_groups(collection, found) == ["a 0", "b 0"]


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


def test_a_class_of_one_artist_cannot_be_grouped() -> None:
    with pytest.raises(SourceError, match="all clips of the class b are of one group"):
        split_tracks(
            [*tracks({"a": 10}, group_size=2), *tracks({"b": 10}, group_size=10)], LabelSettings(group_by="artist"), 42
        )


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


def labelled(*clips: tuple[tuple[str, ...] | None, str | None]) -> list[LabelledTrack]:
    """Return tracks of (labels, group), in this order."""
    return [LabelledTrack(make_ref(f"/x/{number}.wav"), *clip) for number, clip in enumerate(clips)]


def valued(*values: str | None) -> list[LabelledTrack]:
    """Return tracks of one class, each with its value of the split field."""
    return [LabelledTrack(make_ref(f"/x/{number}.wav"), ("a",), None, value) for number, value in enumerate(values)]


def test_two_clips_are_the_fewest_of_which_one_can_be_held_out() -> None:
    with pytest.raises(SourceError, match="got 1 clip, expected at least 2 to hold some out"):
        split_tracks(labelled((("a",), None)), LabelSettings(), 42)
    found = split_tracks(labelled((("a",), None), (("a",), None)), LabelSettings(), 42)
    assert (len(found.train), len(found.validation)) == (1, 1)
    assert found.train != found.validation


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


@pytest.mark.parametrize(("share", "held"), [(0.1, 3), (0.2, 6), (0.5, 15), (0.01, 1), (0.9, 27)])
def test_the_share_is_held_out_of_each_class_where_it_is_enough(share: float, held: int) -> None:
    collection = tracks({"a": 10, "b": 10, "c": 10})
    found = split_tracks(collection, LabelSettings(validation_share=share), 42)
    assert len(found.validation) == held
    assert {(collection[number].labels or ("",))[0] for number in found.train} == {"a", "b", "c"}
    if held < 3:
        return
    assert list(found.validation) == sorted(found.validation) and list(found.train) == sorted(found.train)
    assert {(collection[number].labels or ("",))[0] for number in found.validation} == {"a", "b", "c"}


@pytest.mark.parametrize(("share", "held"), [(0.1, 6), (0.3, 18), (0.6, 36), (0.65, 39)])
def test_the_share_is_held_out_of_many_small_classes(share: float, held: int) -> None:
    """Of 20 classes of two clips and one of twenty, which leaves less than one clip a class at 10%."""
    collection = tracks({"a": 20, **{f"c{number}": 2 for number in range(20)}})
    found = split_tracks(collection, LabelSettings(validation_share=share), 42)
    assert len(found.validation) == held
    assert len({collection[number].labels for number in found.train}) == 21


def test_a_share_that_leaves_too_few_to_learn_from_is_refused_in_a_line() -> None:
    collection = tracks({"a": 20, **{f"c{number}": 2 for number in range(20)}})
    with pytest.raises(SourceError) as refusal:
        split_tracks(collection, LabelSettings(validation_share=0.9), 42)
    assert "share 0.9 of 60 clips, which leaves 6 to learn from, expected at least 21, one of each class" in str(
        refusal.value
    )
    assert "give 0.65 or less" in str(refusal.value)


@pytest.mark.parametrize("lone", [(), ("polka",)])
def test_a_clip_that_shares_no_label_is_balanced_with_the_others(lone: tuple[str, ...]) -> None:
    collection = labelled(*[(("rock", "guitar"), None)] * 10, *[(("jazz", "sax"), None)] * 10, (lone, None))
    for seed in range(6):
        found = split_tracks(collection, LabelSettings(), seed)
        assert (len(found.train), len(found.validation)) == (19, 2)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.4, 0.7, 0.9])
@pytest.mark.parametrize("num_groups", [2, 3])
def test_a_class_of_few_groups_does_not_change_the_share(num_groups: int, share: float) -> None:
    collection = labelled(
        *[(("rock",), f"artist {number // 2}") for number in range(200)],
        *[(("polka",), f"p{number % num_groups}") for number in range(10)],
    )
    found = split_tracks(collection, LabelSettings(group_by="artist", validation_share=share), 42)
    assert abs(len(found.validation) - share * 210) <= 2
    assert not straddling_groups(collection, found)
    assert {collection[number].labels for number in found.train} == {("rock",), ("polka",)}


def test_groups_that_do_not_come_near_the_share_are_refused_in_a_line() -> None:
    collection = labelled(
        *[((label,), f"{label} {half}") for label in "abcdefgh" for half in (0, 1) for _ in range(5 if half else 6)]
    )
    with pytest.raises(SourceError, match=r"share 0\.9 of 88 clips in 16 groups, but whole groups that leave every"):
        split_tracks(collection, LabelSettings(group_by="artist", validation_share=0.9), 42)


@pytest.mark.parametrize("seed", range(40))
def test_any_split_holds_out_the_share_or_is_refused(seed: int) -> None:
    """Of classes, groups and tags at random: within one clip, or where there are groups within the largest."""
    rng = np.random.default_rng(seed)
    share, grouped = float(rng.choice([0.01, 0.1, 0.3, 0.5, 0.75, 0.9])), bool(rng.integers(2))
    clips: list[tuple[tuple[str, ...] | None, str | None]] = []
    for label in range(rng.integers(1, 12)):
        size = int(rng.choice([1, 2, 5]))
        for number in range(rng.choice([4, 10, 30])):
            tags = (f"t{rng.integers(20)}",) * int(seed % 3 == 0 and rng.random() < 0.4)
            group = f"{label} {number // size}" if grouped and rng.random() < 0.95 else None
            clips.append(((f"c{label}", *tags), group))
    collection = labelled(*clips)
    try:
        found = split_tracks(collection, LabelSettings(group_by="g", validation_share=share), seed)
    except SourceError as refusal:
        assert share > 0.5 or "are of one group" in str(refusal)
        assert "\n" not in str(refusal)
        return
    sizes = Counter(track.group for track in collection if track.group is not None)
    assert abs(len(found.validation) - share * len(collection)) <= max(sizes.values(), default=1)
    assert sorted(found.train + found.validation) == list(range(len(collection)))
    assert found.train and found.validation and not straddling_groups(collection, found)


def test_two_groups_of_a_class_are_enough() -> None:
    collection = labelled(*[(("a",), f"a{number}") for number in range(2)], *[(("b",), f"b{n}") for n in range(2)])
    found = split_tracks(collection, LabelSettings(group_by="artist", validation_share=0.5), 42)
    assert len(found.train) == len(found.validation) == 2
    assert {(collection[number].labels or ("",))[0] for number in found.train} == {"a", "b"}


def test_a_clip_without_a_group_is_a_group_of_its_own() -> None:
    collection = labelled(*[(("a",), "g") for _ in range(4)], *[(("a",), None) for _ in range(4)])
    found = split_tracks(collection, LabelSettings(group_by="artist", validation_share=0.25), 1)
    assert not straddling_groups(collection, found)
    assert len(found.validation) in (1, 2) or set(found.validation) == {0, 1, 2, 3}


@pytest.mark.parametrize(("share", "held"), [(0.1, 4), (0.2, 8), (0.25, 10), (0.5, 20)])
def test_whole_groups_come_to_the_share(share: float, held: int) -> None:
    collection = tracks({"a": 20, "b": 20}, group_size=1)
    found = split_tracks(collection, LabelSettings(group_by="artist", validation_share=share), 42)
    assert len(found.validation) == held


def test_of_several_labels_the_rarest_that_another_clip_has_is_balanced() -> None:
    """Two clips have `rare` beside `common`: one goes to each side, whatever the seed."""
    collection = labelled(
        *[(("common",), None) for _ in range(16)],
        *[(("common", "rare"), None) for _ in range(2)],
        (("common", "only here"), None),
    )
    for seed in range(6):
        found = split_tracks(collection, LabelSettings(validation_share=0.5), seed)
        for side in (found.train, found.validation):
            assert sum("rare" in (collection[number].labels or ()) for number in side) == 1


def test_the_usual_names_of_sides_are_known_whatever_their_case() -> None:
    collection = valued(
        "Train", "training", "VAL", "dev", "valid", "validation", "Test", "testing", "eval", "extra", None
    )
    found = split_tracks(collection, LabelSettings(split_by="s"), 42)
    assert (found.train, found.validation, found.test) == ((0, 1), (2, 3, 4, 5), (6, 7, 8))
    assert no_side_of(collection, LabelSettings(split_by="s")) == {"extra": 1, "(none)": 1}
    assert found.sides() == {"train": (0, 1), "validation": (2, 3, 4, 5), "test": (6, 7, 8)}


def test_once_a_side_is_named_the_others_usual_names_mean_nothing_special() -> None:
    collection = valued("1", "2", "val", "1", None)
    found = split_tracks(collection, LabelSettings(split_by="s", test_on=("2",), validation_share=0), 42)
    assert (found.train, found.validation, found.test) == ((0, 2, 3), (), (1,))
    assert no_side_of(collection, LabelSettings(split_by="s", test_on=("2",))) == {"(none)": 1}


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


def test_only_so_many_values_are_named() -> None:
    collection = valued(*(f"v{number}" for number in range(9)))
    with pytest.raises(SourceError) as refusal:
        split_tracks(collection, LabelSettings(split_by="s", test_on=("w",)), 42)
    assert "no clip has the split w; the values are v0, v1, v2, v3, v4, v5, v6, v7" in refusal.value.message
    assert "v8" not in refusal.value.message
    with pytest.raises(SourceError, match="no clip has the split w; the values are none"):
        split_tracks(valued(None, None), LabelSettings(split_by="s", validation_on=("w",)), 42)


def test_groups_straddle_between_training_and_either_other_side() -> None:
    collection = labelled(*[(("a",), group) for group in ("x", "x", "y", "y", "z", None, None)])
    assert straddling_groups(collection, Split((0, 2, 5), (1,), (3, 6))) == ["x", "y"]
    assert straddling_groups(collection, Split((0, 1), (2,), (3, 4))) == []


@pytest.mark.parametrize(("named", "others", "is_it"), [(9, 1, True), (8, 2, False), (10, 0, True)])
def test_gtzan_is_known_by_nine_names_of_ten(named: int, others: int, is_it: bool) -> None:
    collection = [LabelledTrack(make_ref(f"/g/blues.{number:05d}.wav"), ("blues",)) for number in range(named)]
    collection += [LabelledTrack(make_ref(f"/g/other {number}.wav"), ("blues",)) for number in range(others)]
    assert is_gtzan(collection) is is_it
    assert not is_gtzan([*collection, LabelledTrack(make_ref("/g/jazz.00001.wav"), ("jazz", "bebop"))])
