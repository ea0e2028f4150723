"""The counts that a run's workers report, for its progress line and its summary."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from tonearm.errors import TonearmError
from tonearm.wording import counted


@dataclasses.dataclass(frozen=True)
class WindowCounts:
    """How many windows a head has scored, and how many of them it has sent on to its fallback."""

    num_windows: int = 0
    num_sent: int = 0

    @property
    def share_sent(self) -> float:
        """The share of the windows that were sent on."""
        return self.num_sent / self.num_windows if self.num_windows else 0.0

    def plus(self, other: WindowCounts) -> WindowCounts:
        """Return the sum of both."""
        return WindowCounts(self.num_windows + other.num_windows, self.num_sent + other.num_sent)


@dataclasses.dataclass
class Counts:
    """What the stages have reported so far. For display only: the audit counts the rows themselves.

    Attributes:
        span_s: from the first track's bytes to the last track's row.
        num_refused, refused_in_a_row: reads that a store failed, in all and since the last one that succeeded.
        busy_s: summed seconds by stage; ``peak_bytes``: highest resident memory by kind of process.
        routed: the windows of each head that has a fallback.
        facts: for each head what its workers run it with, such as runtime and device.
        failure: why the whole run has to end.
    """

    num_tracks: int = 0
    num_failed: int = 0
    num_windows: int = 0
    audio_s: float = 0.0
    fetched_bytes: int = 0
    num_read: int = 0
    num_refused: int = 0
    refused_in_a_row: int = 0
    span_s: float = 0.0
    busy_s: dict[str, float] = dataclasses.field(default_factory=dict)
    peak_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    facts: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    routed: dict[str, WindowCounts] = dataclasses.field(default_factory=dict)
    failure: TonearmError | None = None


def of_workers(described: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what a head ran on, given what each of its workers ran it on.

    If they differ, it is that of the worker that fell back furthest, and its note says how many ran in which way.

    Args:
        described: by worker, as ``Classifier.describe`` gives it; the last of several that fell back as far is taken.
    """
    lowest_level = max(map(_fallback_level, described))
    lowest = dict(next(worker for worker in reversed(described) if _fallback_level(worker) == lowest_level))
    num_by_kind = Counter((worker["precision"], worker.get("passes", "")) for worker in described)
    if len(num_by_kind) > 1:
        (_, count), *others = sorted(
            num_by_kind.items(), key=lambda item: -_fallback_level(dict(zip(KIND_KEYS, item[0], strict=True)))
        )
        rest = ", ".join(f"{number} in {' '.join(filter(None, kind))}" for kind, number in others)
        shares = f"{count} of {counted(len(described), 'worker')}, {rest}"
        lowest["note"] = "; ".join(filter(None, (shares, lowest.get("note", ""))))
    return lowest


KIND_KEYS = ("precision", "passes")


def _fallback_level(described: Mapping[str, str]) -> int:
    """Return how far a worker has fallen back: from graphs to eager passes, and from those to fp32."""
    # fp32 counts 2, as it is further than eager passes in half precision, and may be either graphs or eager.
    return (described["precision"] == "fp32") * 2 + (described.get("passes") == "eager")
