"""Split a collection: clips to train on, to choose the best epoch by (validation), and to evaluate on (test).

The split is stratified by class, keeps groups such as artists on one side, or follows a field of the collection.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, NewType

from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.storage.uris import shown
from tonearm.training.data.holdout import hold_out, hold_out_groups
from tonearm.wording import counted

TRAIN, VALIDATION, TEST = "train", "validation", "test"
STRATIFIED, FAULT_FILTERED = "stratified", "gtzan-fault-filtered"
NUM_NAMED = 3

# A track's key, which is the same wherever and whenever the same version of the same object is listed. Not a position:
# those change when the source gets another file.
ClipId = NewType("ClipId", int)


@dataclasses.dataclass(frozen=True)
class Split:
    """The clips on each side, in the order of the collection."""

    train: tuple[ClipId, ...]
    validation: tuple[ClipId, ...]
    test: tuple[ClipId, ...]

    def sides(self) -> dict[str, tuple[ClipId, ...]]:
        """Return the sides that have clips, by name."""
        all_sides = {TRAIN: self.train, VALIDATION: self.validation, TEST: self.test}
        return {name: side for name, side in all_sides.items() if side}

    def without(self, broken: Collection[ClipId], copies: Collection[ClipId]) -> Split:
        """Return the split without broken clips, and without ``copies`` in training.

        Raises:
            SourceError: no clip of a held-out side is left; ``check_classes`` looks at the training side.
        """
        remaining = Split(
            tuple(clip for clip in self.train if clip not in broken and clip not in copies),
            tuple(clip for clip in self.validation if clip not in broken),
            tuple(clip for clip in self.test if clip not in broken),
        )
        for name, clips in self.sides().items():
            if name != TRAIN and name not in remaining.sides():
                raise SourceError(
                    f"none of the {counted(len(clips), 'clip')} of {name} can be decoded; repair them, or hold out "
                    "others"
                )
        return remaining


def split_clips(
    clips: Mapping[ClipId, LabelledTrack], sides: Mapping[ClipId, str] | None, settings: LabelSettings, seed: int
) -> Split:
    """Return the split that the settings ask for.

    Args:
        sides: each clip's side by a field; drawn if None.

    Raises:
        SourceError: a side would be empty, or a class has too few clips to be on both sides.
    """
    if sides is None:
        divided = _hold_out_share(clips, list(clips), settings.validation_share, seed)
        return Split(divided.train, divided.held_out, ())
    train, validation, test = (
        tuple(clip for clip in clips if sides[clip] == name) for name in (TRAIN, VALIDATION, TEST)
    )
    # A given split often has only training and test clips; validation clips are then taken from the former.
    if train and not validation and settings.validation_share:
        train, validation = _hold_out_share(clips, list(train), settings.validation_share, seed)
    if not train or not (validation or test):
        raise one_sided(clips.values(), num_train=len(train), num_held_out=len(validation) + len(test))
    return Split(train, validation, test)


def one_sided(tracks: Iterable[LabelledTrack], *, num_train: int, num_held_out: int) -> SourceError:
    """Return the error for a split that leaves no clips for training, or none for evaluation."""
    values = Counter(track.split or "(none)" for track in tracks)
    values_text = ", ".join(f"{value} ({count})" for value, count in values.most_common(8))
    return SourceError(
        f"the split leaves {counted(num_train, 'clip')} to learn from and {num_held_out} to evaluate on; the values "
        f"are {values_text}; name those to evaluate on with --validation-on or --test-on"
    )


def straddling_groups(clips: Mapping[ClipId, LabelledTrack], split: Split) -> list[str]:
    """Return the groups that have training clips and held-out clips, which a given split may have."""
    learnt = {clips[clip].group for clip in split.train}
    held_out = {clips[clip].group for clip in (*split.validation, *split.test)}
    return sorted(group for group in learnt & held_out if group is not None)


class _Divided(NamedTuple):
    train: tuple[ClipId, ...]
    held_out: tuple[ClipId, ...]


def _hold_out_share(
    tracks: Mapping[ClipId, LabelledTrack], clips: Sequence[ClipId], share: float, seed: int
) -> _Divided:
    """Return ``clips`` with ``share`` of them held out, stratified and with groups kept whole."""
    if not share:
        return _Divided(tuple(clips), ())
    if len(clips) < 2:
        raise SourceError(f"got {counted(len(clips), 'clip')}, expected at least 2 to hold some out")
    tracks_to_divide = [tracks[clip] for clip in clips]
    is_multi = any(len(track.labels or ()) != 1 for track in tracks_to_divide)
    classes = (
        _rarest_labels(tracks_to_divide) if is_multi else [(track.labels or ("",))[0] for track in tracks_to_divide]
    )
    groups = [track.group for track in tracks_to_divide]
    if any(group is not None for group in groups):
        # A clip without a group is a group of its own; the NUL keeps its name apart from the names of groups.
        positions = {clip: place for place, clip in enumerate(tracks)}
        names = [
            group if group is not None else f"\0{positions[clip]}" for group, clip in zip(groups, clips, strict=True)
        ]
        if not is_multi:
            _check_class_groups(classes, names)
        held_out = hold_out_groups(classes, names, share, seed, keep_each=not is_multi)
    else:
        if not is_multi:
            _check_class_sizes(tracks_to_divide, classes)
        held_out = hold_out(classes, share, seed, keep_each=not is_multi)
    return _Divided(
        tuple(clip for number, clip in enumerate(clips) if number not in held_out),
        tuple(clip for number, clip in enumerate(clips) if number in held_out),
    )


def _rarest_labels(tracks: Sequence[LabelledTrack]) -> list[str]:
    """Return for each clip the rarest label that another clip has too, by which clips with several are balanced."""
    counts = Counter(label for track in tracks for label in track.labels or ())
    rarest = [
        min(
            (label for label in track.labels or () if counts[label] > 1),
            key=lambda label: counts[label],
            default="",
        )
        for track in tracks
    ]
    repeated = Counter(rarest)
    classes = [label if repeated[label] > 1 else "" for label in rarest]
    # A class of one clip cannot be on both sides, so a single clip without such a label joins the largest class.
    if classes.count("") == 1:
        commonest = Counter(classes).most_common(1)[0][0]
        classes = [label or commonest for label in classes]
    return classes


def _check_class_sizes(tracks: Sequence[LabelledTrack], classes: list[str]) -> None:
    counts = Counter(classes)
    for label, count in sorted(counts.items(), key=lambda pair: pair[1]):
        if count < 2:
            track = tracks[classes.index(label)]
            raise SourceError(
                f"the class {label} has 1 clip ({shown(track.ref.uri)}), expected at least 2: one to learn "
                "from and one to evaluate on; add clips, leave it out, or give --validation-share 0"
            )


def _check_class_groups(classes: list[str], groups: list[str]) -> None:
    groups_by_class: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(classes, groups, strict=True):
        groups_by_class[label].add(group)
    for label, class_groups in sorted(groups_by_class.items()):
        if len(class_groups) < 2:
            raise SourceError(
                f"all clips of the class {label} are of one group ({next(iter(class_groups))}), expected at least 2 "
                "groups so that none stands on both sides; add clips of another, or leave --group-by out"
            )


def describe_straddling(clips: Mapping[ClipId, LabelledTrack], split: Split, settings: LabelSettings) -> list[str]:
    """Return a note about groups that a given split divides. A drawn split never does; see ``holdout``."""
    straddling = straddling_groups(clips, split)
    if not straddling:
        return []
    named = ", ".join(straddling[:NUM_NAMED]) + (" ..." if len(straddling) > NUM_NAMED else "")
    groups_stand = counted(len(straddling), "group", f"by {settings.group_by} stands", f"by {settings.group_by} stand")
    return [f"{groups_stand} on both sides of the given split ({named})"]


def check_classes(
    clips: Mapping[ClipId, LabelledTrack], split: Split, labels: Sequence[str], *, is_multi: bool
) -> list[str]:
    """Return notes about labels without a clip on one of the sides.

    Raises:
        SourceError: there are no clips to learn from, or none of one class.
    """
    counts = Counter(label for clip in split.train for label in clips[clip].labels or ())
    absent = [label for label in labels if not counts[label]]
    if not split.train:
        raise SourceError("no clip is left to learn from; see what was left out above, or change the split")
    # One of several tags may be missing; a class without a clip can never be predicted.
    if absent and not is_multi:
        raise SourceError(
            f"no clip to learn from has the label {', '.join(absent[:NUM_NAMED])}; add some, or change the split"
        )
    notes = [f"no clip to learn from has the tag {', '.join(absent[:NUM_NAMED])}"] if absent else []
    # Not for tags: rare ones are missing from small sides as a rule.
    for name, of_side in () if is_multi else split.sides().items():
        labels_of_side = {label for clip in of_side for label in clips[clip].labels or ()}
        absent = [label for label in labels if label not in labels_of_side]
        if absent:
            more = f" ... ({len(absent)} of {counted(len(labels), 'label')})" if len(absent) > NUM_NAMED else ""
            notes.append(f"no clip of {name} has the label {', '.join(absent[:NUM_NAMED])}{more}")
    return notes
