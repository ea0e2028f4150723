"""Labelled tracks without audio, and their split; a track's id is its place in the list."""

from __future__ import annotations

from tonearm.settings import LabelSettings
from tonearm.sources.labelled import LabelledTrack
from tonearm.sources.listing import make_ref
from tonearm.training.data import splits
from tonearm.training.data.collection import ClipId, assign_sides
from tonearm.training.data.splits import Split

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


def split_tracks(tracks: list[LabelledTrack], settings: LabelSettings, seed: int) -> Split:
    """Return the split of tracks whose ids are their places in the list."""
    clips = {ClipId(place): track for place, track in enumerate(tracks)}
    sides, _ = assign_sides(clips, settings)
    kept = {clip: track for clip, track in clips.items() if sides is None or clip in sides}
    return splits.split_clips(kept, sides, settings, seed)


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


def labelled(*clips: tuple[tuple[str, ...] | None, str | None]) -> list[LabelledTrack]:
    """Return tracks of (labels, group), in this order."""
    return [LabelledTrack(make_ref(f"/x/{number}.wav"), *clip) for number, clip in enumerate(clips)]


def valued(*values: str | None) -> list[LabelledTrack]:
    """Return tracks of one class, each with its value of the split field."""
    return [LabelledTrack(make_ref(f"/x/{number}.wav"), ("a",), None, value) for number, value in enumerate(values)]
