"""The clips of a labelled collection, each known by its id from here to the predictions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NewType

from tonearm.errors import SourceError
from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack, list_labelled
from tonearm.sources.track_ref import track_key
from tonearm.storage.uris import shown
from tonearm.training.data.sides import FAULT_FILTERED, STRATIFIED, assign_sides, fault_filtered, is_gtzan
from tonearm.wording import counted

# A track's key: the same wherever and whenever the same version of the same object is listed.
ClipId = NewType("ClipId", int)


@dataclasses.dataclass(frozen=True)
class Listing:
    """All that a source holds, listed once; several collections may be made of it.

    Attributes:
        tracks: in the order of the source.
        label_by: the field that the labels were taken from.
        is_multi: whether a track may have several labels, or none.
    """

    source: str
    tracks: Mapping[ClipId, LabelledTrack]
    label_by: str
    is_multi: bool

    def with_other_split(self, split_by: str) -> Listing:
        """Return the same tracks with what the second split's field says, as ``list_clips`` was told; no groups."""
        tracks = {
            clip: dataclasses.replace(track, split=track.other_split, group=None) for clip, track in self.tracks.items()
        }
        return dataclasses.replace(self, tracks=_with_published(tracks, split_by))


@dataclasses.dataclass(frozen=True)
class Collection:
    """The clips that there are to learn from and to judge by.

    Attributes:
        clips: those with labels, and on a side where a field names the sides; in the order of the source.
        sides: the side that the field puts each clip on; None where no field does.
        labels: sorted.
        no_side: how many tracks the field puts on no side, by what it says.
        unlabelled: how many have no label.
    """

    clips: Mapping[ClipId, LabelledTrack]
    sides: Mapping[ClipId, str] | None
    labels: tuple[str, ...]
    is_multi: bool
    no_side: Mapping[str, int]
    unlabelled: int


def list_clips(source: str, settings: LabelSettings, *, other_split: str | None = None) -> Listing:
    """Return the tracks of a source with all that ``settings`` names of them.

    Args:
        other_split: what a second split is to be made by, as ``LabelSettings.split_by``.

    Raises:
        SourceError: the source is missing, or has no such field.
    """
    listed = list_labelled(
        source,
        label_by=settings.label_by,
        group_by=settings.group_by,
        split_by=_field(settings.split_by),
        source_by=settings.source_by,
        other_split_by=_field(other_split),
    )
    tracks = _with_published(by_id(listed.tracks), settings.split_by)
    return Listing(source, tracks, listed.label_by, listed.is_multi)


def _with_published(tracks: Mapping[ClipId, LabelledTrack], split_by: str) -> Mapping[ClipId, LabelledTrack]:
    """Return the tracks with GTZAN's published split as the value of their split, where that is asked for."""
    if split_by != FAULT_FILTERED or not is_gtzan(tracks.values()):
        return tracks
    sides = fault_filtered(tracks)
    return {clip: dataclasses.replace(track, split=sides[clip]) for clip, track in tracks.items()}


def _field(split_by: str | None) -> str | None:
    return None if split_by in (STRATIFIED, FAULT_FILTERED) else split_by


def by_id(tracks: Iterable[LabelledTrack]) -> dict[ClipId, LabelledTrack]:
    """Return the tracks by their ids; one that a table has twice is two clips, of which the second has another id."""
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


def make_collection(listing: Listing, settings: LabelSettings) -> Collection:
    """Return the clips of a listing that the settings ask for; what is on no side says nothing of what there is.

    Raises:
        SourceError: clips without a label where that was not allowed, or too few classes.
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
    labels = _labels(listing, clips, is_multi)
    return Collection(clips, sides, labels, is_multi, no_side, len(tracks) - len(clips))


def only_labelled(
    listing: Listing, tracks: Mapping[ClipId, LabelledTrack], settings: LabelSettings
) -> dict[ClipId, LabelledTrack]:
    """Return the tracks that have labels.

    Raises:
        SourceError: some have none, and that was not allowed.
    """
    bare = [track for track in tracks.values() if track.labels is None]
    if bare and not settings.skip_unlabelled:
        raise SourceError(
            f"{len(bare)} of {counted(len(tracks), 'clip')} of {shown(listing.source)} have no label by "
            f"{listing.label_by} (the first is {shown(bare[0].ref.uri)}); fill them in, name another field with "
            "--label-by, or give --skip-unlabelled"
        )
    return {clip: track for clip, track in tracks.items() if track.labels is not None}


def _labels(listing: Listing, clips: Mapping[ClipId, LabelledTrack], is_multi: bool) -> tuple[str, ...]:
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
    """Refuse tracks with several labels, or none, where each should have one.

    Raises:
        SourceError: naming the first.
    """
    for track in tracks:
        if len(track.labels or ()) != 1:
            raise SourceError(
                f"{shown(track.ref.uri)} has {counted(len(track.labels or ()), 'label')}, expected 1; give "
                "--multi-label"
            )


def label_numbers(track: LabelledTrack, labels: Sequence[str]) -> tuple[int, ...]:
    """Return which of ``labels`` a track has, ascending."""
    present = set(track.labels or ())
    return tuple(number for number, label in enumerate(labels) if label in present)


def place_of(track: LabelledTrack) -> str:
    """Return where a clip is, with its file's name where a data set has taken in its bytes."""
    place = shown(track.ref.uri)
    return place if place.endswith(track.name) else f"{track.name} in {place}"
