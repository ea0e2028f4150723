"""Clips of a collection that a model neither learns from nor is judged by: counted, and said wherever figures are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tonearm.wording import counted

NUM_NAMED = 8


@dataclasses.dataclass(frozen=True)
class Omitted:
    """How many clips are left out, by why.

    Attributes:
        no_side: whose value of the split field names no side, by that value.
        unlabelled: without a label.
        copies: taken out of training as copies of held-out clips.
        broken: which could not be read or decoded.
    """

    no_side: Mapping[str, int]
    unlabelled: int
    copies: int
    broken: int

    def lines(self, split_by: str) -> list[str]:
        """Return a sentence for each of the reasons; of broken clips only their number is known here."""
        lines = []
        if self.no_side:
            ranked = sorted(self.no_side.items(), key=lambda pair: (-pair[1], pair[0]))
            values = ", ".join(f"{value} ({count:,})" for value, count in ranked[:NUM_NAMED])
            more = " ..." if len(ranked) > NUM_NAMED else ""
            lines.append(
                f"{_clips(sum(self.no_side.values()))} left out, since `{split_by}` puts them on no side of the split: "
                f"{values}{more}."
            )
        if self.unlabelled:
            lines.append(f"{_clips(self.unlabelled)} left out for want of a label.")
        if self.copies:
            lines.append(f"{_clips(self.copies)} taken out of training as copies of held-out clips.")
        if self.broken:
            lines.append(f"{_clips(self.broken)} left out since they could not be decoded.")
        return lines


def _clips(count: int) -> str:
    return counted(count, "clip", "was", "were")
