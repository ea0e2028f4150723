"""Which clips a model learns from, which choose its best moment, and which it is judged by.

Stratified, grouped so that no artist or recording stands on both sides, or as a field of the collection says.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection as AnyCollection
from collections.abc import Mapping, Sequence

from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.storage.uris import shown
from tonearm.training.data.collection import ClipId, Collection
from tonearm.training.data.holdout import hold_out, hold_out_groups
from tonearm.training.data.sides import TEST, TRAIN, VALIDATION, check_named, one_sided
from tonearm.wording import counted


@dataclasses.dataclass(frozen=True)
class Split:
    """The clips on each side, in the order of the collection."""

    train: tuple[ClipId, ...]
    validation: tuple[ClipId, ...]
    test: tuple[ClipId, ...]

    def sides(self) -> dict[str, tuple[ClipId, ...]]:
        """Return the sides that have clips, by name."""
        every = {TRAIN: self.train, VALIDATION: self.validation, TEST: self.test}
        return {name: side for name, side in every.items() if side}

    def without(self, broken: AnyCollection[ClipId], copies: AnyCollection[ClipId]) -> Split:
        """Return what is left without broken clips, and without ``copies`` in training.

        Raises:
            SourceError: a side that had clips has none any more, save training's.
        """
        left = Split(
            tuple(clip for clip in self.train if clip not in broken and clip not in copies),
            tuple(clip for clip in self.validation if clip not in broken),
            tuple(clip for clip in self.test if clip not in broken),
        )
        for name, clips in self.sides().items():
            if name != TRAIN and name not in left.sides():
                raise SourceError(
                    f"none of the {counted(len(clips), 'clip')} of {name} can be decoded; repair them, or hold out "
                    "others"
                )
        return left


def split_collection(collection: Collection, settings: LabelSettings, seed: int) -> Split:
    """Return the split that the settings ask for: made once, here.

    Raises:
        SourceError: a side would be empty, or a class has too few clips to be on both sides.
    """
    clips, sides = collection.clips, collection.sides
    if sides is None:
        return Split(*_divide(clips, list(clips), settings.validation_share, seed), ())
    check_named({(track.split or "").casefold() for track in clips.values()}, settings)
    train, validation, test = (
        tuple(clip for clip in clips if sides[clip] == name) for name in (TRAIN, VALIDATION, TEST)
    )
    if train and not validation and settings.validation_share:
        train, validation = _divide(clips, list(train), settings.validation_share, seed)
    if not train or not (validation or test):
        raise one_sided(clips.values(), num_train=len(train), num_held_out=len(validation) + len(test))
    return Split(train, validation, test)


def straddling_groups(clips: Mapping[ClipId, LabelledTrack], split: Split) -> list[str]:
    """Return the groups with clips both to learn from and to be judged by, as a given split may have them."""
    learnt = {clips[clip].group for clip in split.train}
    held = {clips[clip].group for clip in (*split.validation, *split.test)}
    return sorted(group for group in learnt & held if group is not None)


def _divide(
    tracks: Mapping[ClipId, LabelledTrack], clips: Sequence[ClipId], share: float, seed: int
) -> tuple[tuple[ClipId, ...], tuple[ClipId, ...]]:
    """Return ``clips`` cut into those that stay and the held-out ``share``, stratified and by whole groups."""
    if not share:
        return tuple(clips), ()
    if len(clips) < 2:
        raise SourceError(f"got {counted(len(clips), 'clip')}, expected at least 2 to hold some out")
    divided = [tracks[clip] for clip in clips]
    is_multi = any(len(track.labels or ()) != 1 for track in divided)
    classes = _rarest(divided) if is_multi else [(track.labels or ("",))[0] for track in divided]
    groups = [track.group for track in divided]
    if any(group is not None for group in groups):
        # A clip without a group is held out by itself; the NUL keeps its name apart from those of groups.
        places = {clip: place for place, clip in enumerate(tracks)}
        names = [group if group is not None else f"\0{places[clip]}" for group, clip in zip(groups, clips, strict=True)]
        if not is_multi:
            _check_groups(classes, names)
        held = hold_out_groups(classes, names, share, seed, keep_each=not is_multi)
    else:
        if not is_multi:
            _check_counts(divided, classes)
        held = hold_out(classes, share, seed, keep_each=not is_multi)
    return (
        tuple(clip for number, clip in enumerate(clips) if number not in held),
        tuple(clip for number, clip in enumerate(clips) if number in held),
    )


def _rarest(tracks: Sequence[LabelledTrack]) -> list[str]:
    """Return for each clip the rarest of its labels that another clip has too, to balance by."""
    counts = Counter(label for track in tracks for label in track.labels or ())
    rare = [
        min(
            (label for label in track.labels or () if counts[label] > 1),
            key=lambda label: counts[label],
            default="",
        )
        for track in tracks
    ]
    repeated = Counter(rare)
    classes = [label if repeated[label] > 1 else "" for label in rare]
    # A class of one clip cannot be on both sides, so a lone clip counts as one of the commonest class.
    if classes.count("") == 1:
        commonest = Counter(classes).most_common(1)[0][0]
        classes = [label or commonest for label in classes]
    return classes


def _check_counts(tracks: Sequence[LabelledTrack], classes: list[str]) -> None:
    counts = Counter(classes)
    for label, count in sorted(counts.items(), key=lambda pair: pair[1]):
        if count < 2:
            track = tracks[classes.index(label)]
            raise SourceError(
                f"the class {label} has 1 clip ({shown(track.ref.uri)}), expected at least 2: one to learn "
                "from and one to evaluate on; add clips, leave it out, or give --validation-share 0"
            )


def _check_groups(classes: list[str], groups: list[str]) -> None:
    of_class: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(classes, groups, strict=True):
        of_class[label].add(group)
    for label, class_groups in sorted(of_class.items()):
        if len(class_groups) < 2:
            raise SourceError(
                f"all clips of the class {label} are of one group ({next(iter(class_groups))}), expected at least 2 "
                "groups so that none stands on both sides; add clips of another, or leave --group-by out"
            )
