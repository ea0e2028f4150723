"""The clips of a labelled collection, and the sides that it puts them on; each keeps its id up to the predictions.

The artist-aware fault-filtered split of GTZAN is of Kereliuk, Sturm and Larsen 2015 (arXiv:1507.04761).
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
import re
from collections import Counter
from collections.abc import Collection as AnyCollection
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from tonearm.errors import SourceError
from tonearm.settings import LabelSettings, TrainSettings
from tonearm.sources.labelled import LabelledTrack, list_labelled
from tonearm.sources.track_ref import TrackRef, track_key
from tonearm.storage.uris import shown
from tonearm.training.data.splits import (
    FAULT_FILTERED,
    STRATIFIED,
    TEST,
    TRAIN,
    VALIDATION,
    Split,
    one_sided,
    split_clips,
)
from tonearm.training.data.splits import ClipId as ClipId
from tonearm.wording import counted

USUAL = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "valid", "val", "dev"),
    TEST: ("test", "testing", "eval"),
}
GTZAN_GENRES = {"blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"}
_GTZAN_NAME = re.compile(r"\b(" + "|".join(sorted(GTZAN_GENRES)) + r")\.(\d{5})\b")

Id = TypeVar("Id")


@dataclasses.dataclass(frozen=True)
class Listing:
    """All tracks of a source, listed once; several collections may be made from it.

    Attributes:
        tracks: in the order of the source.
        label_by: the field that has the labels.
        is_multi: whether a track may have several labels, or none.
        is_gtzan: whether these are the tracks of GTZAN, of which a split is published.
    """

    source: str
    tracks: Mapping[ClipId, LabelledTrack]
    label_by: str
    is_multi: bool
    is_gtzan: bool

    def with_other_split(self, split_by: str) -> Listing:
        """Return the same tracks with the values of ``list_clips``'s ``other_split`` as split, and without groups."""
        tracks = {
            clip: dataclasses.replace(track, split=track.other_split, group=None) for clip, track in self.tracks.items()
        }
        return dataclasses.replace(self, tracks=tracks)._with_published_split(split_by)

    def _with_published_split(self, split_by: str) -> Listing:
        """Return the listing with the sides of GTZAN's published split, if that is what ``split_by`` asks for."""
        if split_by != FAULT_FILTERED or not self.is_gtzan:
            return self
        sides = fault_filtered(self.tracks)
        tracks = {clip: dataclasses.replace(track, split=sides[clip]) for clip, track in self.tracks.items()}
        return dataclasses.replace(self, tracks=tracks)


@dataclasses.dataclass(frozen=True)
class Collection:
    """The clips for training and evaluation.

    Attributes:
        clips: those with labels and, if a field names the sides, with a side; in the order of the source.
        sides: each clip's side by that field; None without such a field.
        labels: sorted.
        no_side: number of tracks without a side, by the field's value.
        unlabelled: number of tracks without a label.
    """

    clips: Mapping[ClipId, LabelledTrack]
    sides: Mapping[ClipId, str] | None
    labels: tuple[str, ...]
    is_multi: bool
    no_side: Mapping[str, int]
    unlabelled: int

    @property
    def refs(self) -> dict[ClipId, TrackRef]:
        """The location of each clip."""
        return {clip: track.ref for clip, track in self.clips.items()}


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A collection and its split, which are known before a model is read or a clip decoded."""

    collection: Collection
    split: Split


def list_clips(source: str, settings: LabelSettings, *, other_split: str | None = None) -> Listing:
    """Return the tracks of a source with the fields that ``settings`` names.

    Args:
        other_split: the field of a second split, as ``LabelSettings.split_by``.

    Raises:
        SourceError: the source is missing, or has no such field.
    """
    listed = list_labelled(
        source,
        label_by=settings.label_by,
        group_by=settings.group_by,
        split_by=_field_name(settings.split_by),
        source_by=settings.source_by,
        other_split_by=_field_name(other_split),
    )
    tracks = by_id(listed.tracks)
    listing = Listing(source, tracks, listed.label_by, listed.is_multi, is_gtzan(listed.tracks))
    return listing._with_published_split(settings.split_by)


def _field_name(split_by: str | None) -> str | None:
    return None if split_by in (STRATIFIED, FAULT_FILTERED) else split_by


def by_id(tracks: Iterable[LabelledTrack]) -> dict[ClipId, LabelledTrack]:
    """Return the tracks by their ids. A file that a table has twice is two clips, with different ids."""
    clips: dict[ClipId, LabelledTrack] = {}
    repeated: Counter[int] = Counter()
    for track in tracks:
        ref = track.ref
        # A second row of the same file may have other labels, so it is another clip, with another id.
        clip = ClipId(ref.track_key)
        while clip in clips:
            repeated[ref.track_key] += 1
            salt = repeated[ref.track_key]
            clip = ClipId(track_key(ref.uri, ref.size_bytes, ref.etag, ref.modified, salt))
        clips[clip] = track
    return clips


def draw(listing: Listing, settings: TrainSettings) -> Drawn:
    """Return the collection and its split. This is the only place where a split is made.

    Raises:
        SourceError: too few labels or clips, or labels that are missing.
    """
    collection = make_collection(listing, settings.labels)
    return Drawn(collection, split_clips(collection.clips, collection.sides, settings.labels, settings.seed))


def make_collection(listing: Listing, settings: LabelSettings) -> Collection:
    """Return the clips of a listing that the settings select. Tracks without a side do not count for the labels.

    Raises:
        SourceError: clips have no label and that is not allowed, or there are too few classes.
    """
    sides, no_side = assign_sides(listing.tracks, settings)
    tracks = (
        listing.tracks if sides is None else {clip: listing.tracks[clip] for clip in listing.tracks if clip in sides}
    )
    clips = only_labelled(listing, tracks, settings)
    # Every side's clips must be clips of the collection: unlabelled ones are gone by now.
    if sides is not None:
        sides = {clip: side for clip, side in sides.items() if clip in clips}
    is_multi = settings.multi_label if settings.multi_label is not None else listing.is_multi
    labels = _collect_labels(listing, clips, is_multi)
    if sides is not None:
        check_named({(track.split or "").casefold() for track in clips.values()}, settings)
    return Collection(clips, sides, labels, is_multi, no_side, len(tracks) - len(clips))


def assign_sides(
    tracks: Mapping[Id, LabelledTrack], settings: LabelSettings
) -> tuple[dict[Id, str] | None, dict[str, int]]:
    """Return each track's side by its ``split``, and how many tracks have no side, by the value of ``split``.

    The sides are None if no field gives them: then ``splits`` draws them.

    Raises:
        SourceError: the settings name a value that no track has, or no track has a side.
    """
    if settings.split_by == STRATIFIED or not tracks:
        return None, {}
    if settings.split_by == FAULT_FILTERED and not is_gtzan(tracks.values()):
        raise SourceError(
            "got --split-by gtzan-fault-filtered for a collection that is not GTZAN; expected its ten genres and files "
            "named blues.00000.wav"
        )
    values = {clip: track.split for clip, track in tracks.items()}
    folded_values = {value.casefold() for value in values.values() if value is not None}
    check_named(folded_values, settings)
    held_out_values = {VALIDATION: _casefolded(settings.validation_on), TEST: _casefolded(settings.test_on)}
    has_train = bool(folded_values & set(USUAL[TRAIN]))
    sides: dict[Id, str] = {}
    no_side: Counter[str] = Counter()
    for clip, value in values.items():
        side = _side_of_value(None if value is None else value.casefold(), held_out_values, has_train)
        if side is None:
            no_side[value or "(none)"] += 1
        else:
            sides[clip] = side
    if not sides:
        raise one_sided(tracks.values(), num_train=0, num_held_out=0)
    return sides, dict(no_side)


def check_named(known: AnyCollection[str], settings: LabelSettings) -> None:
    """Refuse a setting that names a side by a value that no clip has.

    Args:
        known: the values that clips have, casefolded.

    Raises:
        SourceError: with that value.
    """
    for named in (*settings.validation_on, *settings.test_on):
        if named.casefold() not in known:
            raise SourceError(f"no clip has the split {named}; the values are {', '.join(sorted(known)[:8]) or 'none'}")


def _casefolded(values: Sequence[str]) -> set[str]:
    return {value.casefold() for value in values}


def _side_of_value(value: str | None, held_out_values: dict[str, set[str]], has_train: bool) -> str | None:
    for side, values in held_out_values.items():
        if value in values:
            return side
    all_named = set().union(*held_out_values.values())
    for side, usual_names in USUAL.items():
        # If the user names the held-out values, other values such as "dev" have no meaning of their own; only "train"
        # keeps it.
        if value in usual_names and (side == TRAIN or not all_named):
            return side
    # With the held-out values named, all other clips are for training, unless some of them say "train" themselves.
    if has_train or value is None or not all_named:
        return None
    return TRAIN


def is_gtzan(tracks: Iterable[LabelledTrack]) -> bool:
    """Return whether this is GTZAN: its ten genres, and files named ``blues.00000.wav`` and so on."""
    tracks = list(tracks)
    labels = {label for track in tracks for label in track.labels or ()}
    # 90%, since copies of GTZAN often lack files: one of its 1,000 cannot be decoded (jazz.00054).
    num_named = sum(_gtzan_name(track) is not None for track in tracks)
    return bool(tracks) and labels <= GTZAN_GENRES and num_named >= 0.9 * len(tracks)


def fault_filtered(tracks: Mapping[Id, LabelledTrack]) -> dict[Id, str | None]:
    """Return each track's side of the fault-filtered split; None for tracks that it leaves out."""
    text = importlib.resources.files(__package__).joinpath("gtzan_fault_filtered.csv").read_text()
    sides = {row["track"]: row["split"] for row in csv.DictReader(text.splitlines())}
    return {clip: sides.get(_gtzan_name(track) or "") for clip, track in tracks.items()}


def _gtzan_name(track: LabelledTrack) -> str | None:
    match = _GTZAN_NAME.search(track.name)
    return f"{match[1]}.{match[2]}" if match else None


def only_labelled(
    listing: Listing, tracks: Mapping[ClipId, LabelledTrack], settings: LabelSettings
) -> dict[ClipId, LabelledTrack]:
    """Return the tracks that have labels.

    Raises:
        SourceError: some have none, and that is not allowed.
    """
    unlabelled = [track for track in tracks.values() if track.labels is None]
    if unlabelled and not settings.skip_unlabelled:
        raise SourceError(
            f"{len(unlabelled)} of {counted(len(tracks), 'clip')} of {shown(listing.source)} have no label by "
            f"{listing.label_by} (the first is {shown(unlabelled[0].ref.uri)}); fill them in, name another field with "
            "--label-by, or give --skip-unlabelled"
        )
    return {clip: track for clip, track in tracks.items() if track.labels is not None}


def _collect_labels(listing: Listing, clips: Mapping[ClipId, LabelledTrack], is_multi: bool) -> tuple[str, ...]:
    # Sorted, so that the order of a model's logits does not depend on the order of the source.
    labels = tuple(sorted({label for track in clips.values() for label in track.labels or ()}))
    if len(labels) < (1 if is_multi else 2):
        got = f"the one class {labels[0]}" if labels else "no class"
        raise SourceError(
            f"{shown(listing.source)} has {got} by {listing.label_by}, expected at least 2; expected a folder a class, "
            "or name the field with --label-by"
        )
    if not is_multi:
        check_single(clips.values())
    return labels


def check_single(tracks: Iterable[LabelledTrack]) -> None:
    """Refuse tracks that do not have exactly one label.

    Raises:
        SourceError: with the first such track.
    """
    for track in tracks:
        if len(track.labels or ()) != 1:
            raise SourceError(
                f"{shown(track.ref.uri)} has {counted(len(track.labels or ()), 'label')}, expected 1; give "
                "--multi-label"
            )


def label_numbers(track: LabelledTrack, labels: Sequence[str]) -> tuple[int, ...]:
    """Return the indices in ``labels`` of the track's labels, ascending."""
    present = set(track.labels or ())
    return tuple(number for number, label in enumerate(labels) if label in present)


def place_of(track: LabelledTrack) -> str:
    """Return the location of a clip for messages; for a clip inside a data set's file also its own name."""
    place = shown(track.ref.uri)
    return place if place.endswith(track.name) else f"{track.name} in {place}"
