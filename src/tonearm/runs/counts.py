"""What a run's workers have done so far, for the people who watch it."""

from __future__ import annotations

import dataclasses

from tonearm.errors import TonearmError


@dataclasses.dataclass
class Counts:
    """What the stages have reported so far; for people, not for the audit.

    ``span_s`` is the time from the first track's bytes to the last track's row; ``refused_in_a_row`` counts the reads
    that a store has failed since the last one that it did not.
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
    failure: TonearmError | None = None
