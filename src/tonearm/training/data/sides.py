"""Which side of a split a collection's own words put each clip on: a field's values, or GTZAN's published split.

The artist-aware fault-filtered split of GTZAN is of Kereliuk, Sturm and Larsen 2015 (arXiv:1507.04761).
"""

from __future__ import annotations

import csv
import importlib.resources
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
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

Id = TypeVar("Id")


def assign_sides(
    tracks: Mapping[Id, LabelledTrack], settings: LabelSettings
) -> tuple[dict[Id, str] | None, dict[str, int]]:
    """Return the side that each track's ``split`` puts it on, and how many are put on none, by their value.

    Without such a field the sides are None: ``splits`` draws them.

    Raises:
        SourceError: the settings name a value that no track has, or no track is put on any side.
    """
    if settings.split_by == STRATIFIED or not tracks:
        return None, {}
    if settings.split_by == FAULT_FILTERED and not is_gtzan(tracks.values()):
        raise SourceError(
            "got --split-by gtzan-fault-filtered for a collection that is not GTZAN; expected its ten genres and files "
            "named blues.00000.wav"
        )
    values = {clip: track.split for clip, track in tracks.items()}
    known = {value.casefold() for value in values.values() if value is not None}
    check_named(known, settings)
    named = {VALIDATION: _folded(settings.validation_on), TEST: _folded(settings.test_on)}
    has_train = bool(known & set(USUAL[TRAIN]))
    sides: dict[Id, str] = {}
    no_side: Counter[str] = Counter()
    for clip, value in values.items():
        side = _side(None if value is None else value.casefold(), named, has_train)
        if side is None:
            no_side[value or "(none)"] += 1
        else:
            sides[clip] = side
    if not sides:
        raise one_sided(tracks.values(), num_train=0, num_held_out=0)
    return sides, dict(no_side)


def one_sided(tracks: Iterable[LabelledTrack], *, num_train: int, num_held_out: int) -> SourceError:
    """Return the error for a split that leaves nothing to learn from, or nothing to evaluate on."""
    values = Counter(track.split or "(none)" for track in tracks)
    seen = ", ".join(f"{value} ({count})" for value, count in values.most_common(8))
    return SourceError(
        f"the split leaves {counted(num_train, 'clip')} to learn from and {num_held_out} to evaluate on; the values "
        f"are {seen}; name those to evaluate on with --validation-on or --test-on"
    )


def check_named(known: Collection[str], settings: LabelSettings) -> None:
    """Refuse a side that is named by a value which no clip has.

    Args:
        known: the values that there are, folded.

    Raises:
        SourceError: naming the value.
    """
    for named in (*settings.validation_on, *settings.test_on):
        if named.casefold() not in known:
            raise SourceError(f"no clip has the split {named}; the values are {', '.join(sorted(known)[:8]) or 'none'}")


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
    # Where only the held-out values are named, all other values are learnt from, unless some say "train" themselves.
    if has_train or value is None or not taken:
        return None
    return TRAIN


def is_gtzan(tracks: Iterable[LabelledTrack]) -> bool:
    """Return whether this is GTZAN: its ten genres, and files named ``blues.00000.wav`` and so on."""
    tracks = list(tracks)
    labels = {label for track in tracks for label in track.labels or ()}
    named = sum(_gtzan_name(track) is not None for track in tracks)
    return bool(tracks) and labels <= GTZAN_GENRES and named >= 0.9 * len(tracks)


def fault_filtered(tracks: Mapping[Id, LabelledTrack]) -> dict[Id, str | None]:
    """Return each track's side of the fault-filtered split, or None for one that it leaves out."""
    text = importlib.resources.files(__package__).joinpath("gtzan_fault_filtered.csv").read_text()
    sides = {row["track"]: row["split"] for row in csv.DictReader(text.splitlines())}
    return {clip: sides.get(_gtzan_name(track) or "") for clip, track in tracks.items()}


def _gtzan_name(track: LabelledTrack) -> str | None:
    match = _GTZAN_NAME.search(track.name)
    return f"{match[1]}.{match[2]}" if match else None
