"""What makes a collection no use is refused, and what a person should know of it is said in a line."""

from __future__ import annotations

import pytest

from tonearm.errors import SourceError, TooManyFailures, TrackError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.sources.listing import make_ref
from tonearm.training.data.collection import ClipId, Collection
from tonearm.training.data.omitted import check_broken
from tonearm.training.data.splits import Split, check_classes, describe_straddling


def collection_of(labels: str, *, is_multi: bool = False, group: str | None = None) -> Collection:
    """Return a collection with one clip for each letter, which is its label."""
    clips = {
        ClipId(place): LabelledTrack(make_ref(f"/{place}.wav"), (label,), group) for place, label in enumerate(labels)
    }
    return Collection(clips, None, tuple(sorted({*labels})), is_multi, {}, 0)


def split_of(train: str = "", validation: str = "") -> Split:
    """Return a split of clips by their places, such as ``"01"``."""
    return Split(tuple(ClipId(int(place)) for place in train), tuple(ClipId(int(place)) for place in validation), ())


def classes_of(collection: Collection, split: Split) -> list[str]:
    return check_classes(collection.clips, split, ("a", "b"), is_multi=collection.is_multi)


def test_three_broken_clips_are_named_and_the_others_counted() -> None:
    collection = collection_of("aaaaabbbbb")
    errors = {ClipId(place): TrackError("no audio", code="not_audio") for place in range(5)}
    (line,) = check_broken(collection, errors, 0.5)
    assert line.startswith("left out, cannot be decoded: ") and line.count("(not_audio)") == 3
    assert line.endswith(", and 2 more")
    assert check_broken(collection, {}, 0.0) == []
    with pytest.raises(TooManyFailures, match=r"5 of 10 clips cannot be used .* more than max_error_rate 0\.4 allows"):
        check_broken(collection, errors, 0.4)


def test_a_class_that_none_is_learnt_from_is_refused_and_a_tag_is_said() -> None:
    split = split_of("00", "1")
    with pytest.raises(SourceError, match="no clip to learn from has the label b"):
        classes_of(collection_of("ab"), split)
    tags = collection_of("ab", is_multi=True)
    assert classes_of(tags, split) == ["no clip to learn from has the tag b"]
    with pytest.raises(SourceError, match="no clip is left to learn from"):
        classes_of(tags, split_of("", "1"))


def test_a_label_that_no_held_out_clip_has_is_said() -> None:
    assert classes_of(collection_of("aba"), split_of("01", "2")) == ["no clip of validation has the label b"]


def test_groups_on_both_sides_are_named() -> None:
    settings = LabelSettings(group_by="artist")
    collection = collection_of("ab", group="Nina")
    assert describe_straddling(collection.clips, split_of("0", "1"), settings) == [
        "1 group by artist stands on both sides of the given split (Nina)"
    ]
    assert describe_straddling(collection.clips, split_of("01"), settings) == []
