"""Clips are held out to the share asked for: balanced by class, in whole groups, and never the last of a class."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.unit.training.data.made_tracks import labelled, split_tracks, straddling_groups, tracks
from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.sources.listing import make_ref


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


def test_a_class_of_one_artist_cannot_be_grouped() -> None:
    with pytest.raises(SourceError, match="all clips of the class b are of one group"):
        split_tracks(
            [*tracks({"a": 10}, group_size=2), *tracks({"b": 10}, group_size=10)], LabelSettings(group_by="artist"), 42
        )


def test_two_clips_are_the_fewest_of_which_one_can_be_held_out() -> None:
    with pytest.raises(SourceError, match="got 1 clip, expected at least 2 to hold some out"):
        split_tracks(labelled((("a",), None)), LabelSettings(), 42)
    found = split_tracks(labelled((("a",), None), (("a",), None)), LabelSettings(), 42)
    assert (len(found.train), len(found.validation)) == (1, 1)
    assert found.train != found.validation


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
def test_any_random_split_holds_out_its_share_or_is_refused(seed: int) -> None:
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
