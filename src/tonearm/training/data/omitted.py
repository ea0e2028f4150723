"""The number of clips that are neither trained on nor evaluated; it is shown wherever figures are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tonearm.errors import TooManyFailures, TrackError
from tonearm.training.data.collection import ClipId, Collection, place_of
from tonearm.wording import counted

MOST_VALUES, MOST_BROKEN = 8, 3


@dataclasses.dataclass(frozen=True)
class Omitted:
    """How many clips are left out, by reason.

    Attributes:
        no_side: clips whose value of the split field names no side, by that value.
        unlabelled: clips without a label.
        copies: clips taken out of training because they are copies of held-out clips.
        broken: clips that could not be read or decoded.
    """

    no_side: Mapping[str, int]
    unlabelled: int
    copies: int
    broken: int

    def lines(self, split_by: str) -> list[str]:
        """Return a sentence for each reason; ``check_broken`` also names the broken clips."""
        lines = []
        if self.no_side:
            # The most frequent first, and equal ones by name, so that a model card is the same in each run.
            ranked = sorted(self.no_side.items(), key=lambda pair: (-pair[1], pair[0]))
            values = ", ".join(f"{value} ({count:,})" for value, count in ranked[:MOST_VALUES])
            more = " ..." if len(ranked) > MOST_VALUES else ""
            lines.append(
                f"{_clips(sum(self.no_side.values()))} left out, since `{split_by}` puts them on no side of the split: "
                f"{values}{more}."
            )
        if self.unlabelled:
            lines.append(f"{_clips(self.unlabelled)} left out without a label.")
        if self.copies:
            lines.append(f"{_clips(self.copies)} taken out of training as copies of held-out clips.")
        if self.broken:
            lines.append(f"{_clips(self.broken)} left out since they could not be decoded.")
        return lines


def _clips(count: int) -> str:
    return counted(count, "clip", "was", "were")


def check_broken(collection: Collection, errors: Mapping[ClipId, TrackError], max_error_rate: float) -> list[str]:
    """Return a note that names the clips that could not be decoded.

    Raises:
        TooManyFailures: more than ``max_error_rate`` of the clips.
    """
    if not errors:
        return []
    lines = [f"{place_of(collection.clips[clip])}: {error.message} ({error.code})" for clip, error in errors.items()]
    if len(lines) / len(collection.clips) > max_error_rate:
        raise TooManyFailures(
            f"{len(lines)} of {counted(len(collection.clips), 'clip')} cannot be used (the first: {lines[0]}), more "
            f"than max_error_rate {max_error_rate:g} allows; repair them or allow more"
        )
    more = f", and {len(lines) - MOST_BROKEN} more" if len(lines) > MOST_BROKEN else ""
    return [f"left out, cannot be decoded: {'; '.join(lines[:MOST_BROKEN])}{more}"]
