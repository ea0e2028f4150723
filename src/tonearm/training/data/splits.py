"""Which clips a model learns from, which choose its best moment, and which it is judged by.

Stratified, grouped so that no artist or recording stands on both sides, by a column of the collection, or the
artist-aware fault-filtered split of GTZAN (Kereliuk, Sturm and Larsen 2015, arXiv:1507.04761).
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.storage.uris import shown
from tonearm.training.data.holdout import hold_out, hold_out_groups
from tonearm.wording import counted

TRAIN, VALIDATION, TEST = "train", "validation", "test"
USUAL = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "valid", "val", "dev"),
    TEST: ("test", "testing", "eval"),
}
STRATIFIED, FAULT_FILTERED = "stratified", "gtzan-fault-filtered"

GTZAN_GENRES = {"blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"}
_GTZAN_NAME = re.compile(r"\b(" + "|".join(sorted(GTZAN_GENRES)) + r")\.(\d{5})\b")


@dataclasses.dataclass(frozen=True)
class Split:
    """Numbers of the tracks on each side, ascending; ``left_out`` counts those on none, by what they say."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)

    def sides(self) -> dict[str, tuple[int, ...]]:
        """Return the sides that have tracks, by name."""
        every = {TRAIN: self.train, VALIDATION: self.validation, TEST: self.test}
        return {name: side for name, side in every.items() if side}


def split_tracks(tracks: Sequence[LabelledTrack], settings: LabelSettings, seed: int) -> Split:
    """Return the split that the settings ask for.

    Raises:
        SourceError: a side would be empty, or a class has too few clips to be on both sides.
    """
    everything = range(len(tracks))
    if settings.split_by == STRATIFIED:
        train, validation = _divide(tracks, list(everything), settings.validation_share, seed)
        return Split(train, validation, ())
    sides, left_out = _by_value(tracks, settings)
    train, validation = tuple(sides[TRAIN]), tuple(sides[VALIDATION])
    if train and not validation and settings.validation_share:
        train, validation = _divide(tracks, list(train), settings.validation_share, seed)
    if not train or not (validation or sides[TEST]):
        values = Counter(track.split or "(none)" for track in tracks)
        seen = ", ".join(f"{value} ({count})" for value, count in values.most_common(8))
        raise SourceError(
            f"the split leaves {counted(len(train), 'clip')} to learn from and {len(validation) + len(sides[TEST])} "
            f"to evaluate on; the values are {seen}; name those to evaluate on with --validation-on or --test-on"
        )
    return Split(train, validation, tuple(sides[TEST]), left_out)


def on_a_side(tracks: Sequence[LabelledTrack], settings: LabelSettings) -> tuple[list[LabelledTrack], dict[str, int]]:
    """Return the tracks that the split field puts on a side, and how many others there are, by what they say.

    Raises:
        SourceError: the settings name a value that no track has.
    """
    if settings.split_by == STRATIFIED or not tracks:
        return list(tracks), {}
    sides, left_out = _by_value(tracks, settings)
    return [tracks[number] for number in sorted(number for side in sides.values() for number in side)], left_out


def straddling_groups(tracks: Sequence[LabelledTrack], split: Split) -> list[str]:
    """Return the groups with tracks both to learn from and to be judged by, as a given split may have them."""
    learnt = {tracks[number].group for number in split.train}
    held = {tracks[number].group for number in (*split.validation, *split.test)}
    return sorted(group for group in learnt & held if group is not None)


def is_gtzan(tracks: Sequence[LabelledTrack]) -> bool:
    """Return whether this is GTZAN: its ten genres, and files named ``blues.00000.wav`` and so on."""
    labels = {label for track in tracks for label in track.labels or ()}
    named = sum(_gtzan_name(track) is not None for track in tracks)
    return bool(tracks) and labels <= GTZAN_GENRES and named >= 0.9 * len(tracks)


def _gtzan_name(track: LabelledTrack) -> str | None:
    match = _GTZAN_NAME.search(track.name)
    return f"{match[1]}.{match[2]}" if match else None


def fault_filtered(tracks: Sequence[LabelledTrack]) -> list[str | None]:
    """Return each track's side of the fault-filtered split, or None for one that it leaves out."""
    text = importlib.resources.files(__package__).joinpath("gtzan_fault_filtered.csv").read_text()
    sides = {row["track"]: row["split"] for row in csv.DictReader(text.splitlines())}
    return [sides.get(_gtzan_name(track) or "") for track in tracks]


def _by_value(tracks: Sequence[LabelledTrack], settings: LabelSettings) -> tuple[dict[str, list[int]], dict[str, int]]:
    if settings.split_by == FAULT_FILTERED:
        if not is_gtzan(tracks):
            raise SourceError(
                "got --split-by gtzan-fault-filtered for a collection that is not GTZAN; expected its ten genres and "
                "files named blues.00000.wav"
            )
        values = fault_filtered(tracks)
    else:
        values = [track.split for track in tracks]
    known = {value.casefold() for value in values if value is not None}
    for wanted in (*settings.validation_on, *settings.test_on):
        if wanted.casefold() not in known:
            raise SourceError(
                f"no clip has the split {wanted}; the values are {', '.join(sorted(known)[:8]) or 'none'}"
            )
    named = {VALIDATION: _folded(settings.validation_on), TEST: _folded(settings.test_on)}
    has_train = bool(known & set(USUAL[TRAIN]))
    sides: dict[str, list[int]] = {TRAIN: [], VALIDATION: [], TEST: []}
    left_out: Counter[str] = Counter()
    for index, value in enumerate(values):
        side = _side(None if value is None else value.casefold(), named, has_train)
        if side is None:
            left_out[value or "(none)"] += 1
        else:
            sides[side].append(index)
    return sides, dict(left_out)


def _folded(values: Sequence[str]) -> set[str]:
    return {value.casefold() for value in values}


def _side(value: str | None, named: dict[str, set[str]], has_train: bool) -> str | None:
    for side, values in named.items():
        if value in values:
            return side
    taken = set().union(*named.values())
    for side, usual in USUAL.items():
        # Once the test clips are named, the usual names for them mean nothing special, save train itself.
        if value in usual and (side == TRAIN or not taken):
            return side
    if has_train or value is None or not taken:
        return None
    return TRAIN


def _divide(
    tracks: Sequence[LabelledTrack], indices: list[int], share: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return ``indices`` cut into those that stay and the held-out ``share``, stratified and by whole groups."""
    if not share:
        return tuple(indices), ()
    if len(indices) < 2:
        raise SourceError(f"got {counted(len(indices), 'clip')}, expected at least 2 to hold some out")
    is_multi = any(len(tracks[index].labels or ()) != 1 for index in indices)
    classes = _rarest(tracks, indices) if is_multi else [(tracks[index].labels or ("",))[0] for index in indices]
    groups = [tracks[index].group for index in indices]
    if any(group is not None for group in groups):
        # A clip without a group is a group of its own.
        names = [group if group is not None else f"\0{index}" for group, index in zip(groups, indices, strict=True)]
        if not is_multi:
            _check_groups(classes, names)
        held = hold_out_groups(classes, names, share, seed, keep_each=not is_multi)
    else:
        if not is_multi:
            _check_counts(tracks, indices, classes)
        held = hold_out(classes, share, seed, keep_each=not is_multi)
    numbers = range(len(indices))
    return (
        tuple(indices[number] for number in numbers if number not in held),
        tuple(indices[number] for number in numbers if number in held),
    )


def _rarest(tracks: Sequence[LabelledTrack], indices: list[int]) -> list[str]:
    """Return of each clip's labels the rarest that another clip has too, to balance by.

    A clip that shares none counts as one of the commonest: alone it could stand on one side only.
    """
    counts = Counter(label for index in indices for label in tracks[index].labels or ())
    rare = [
        min(
            (label for label in tracks[index].labels or () if counts[label] > 1),
            key=lambda label: counts[label],
            default="",
        )
        for index in indices
    ]
    repeated = Counter(rare)
    classes = [label if repeated[label] > 1 else "" for label in rare]
    if classes.count("") == 1:
        commonest = Counter(classes).most_common(1)[0][0]
        classes = [label or commonest for label in classes]
    return classes


def _check_counts(tracks: Sequence[LabelledTrack], indices: list[int], classes: list[str]) -> None:
    counts = Counter(classes)
    for label, count in sorted(counts.items(), key=lambda pair: pair[1]):
        if count < 2:
            index = indices[classes.index(label)]
            raise SourceError(
                f"the class {label} has 1 clip ({shown(tracks[index].ref.uri)}), expected at least 2: one to learn "
                "from and one to evaluate on; add clips, leave it out, or give --validation-share 0"
            )


def _check_groups(classes: list[str], groups: list[str]) -> None:
    of_class: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(classes, groups, strict=True):
        of_class[label].add(group)
    for label, found in sorted(of_class.items()):
        if len(found) < 2:
            raise SourceError(
                f"all clips of the class {label} are of one group ({next(iter(found))}), expected at least 2 groups so "
                "that none stands on both sides; add clips of another, or leave --group-by out"
            )
