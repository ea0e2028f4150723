"""How the report says numbers, and what it says of each error code."""

from __future__ import annotations

from tonearm import error_codes, wording
from tonearm.runs.run_summary import FallbackFacts

# error code → what happened, what to do about it
ADVICE: dict[str, tuple[str, str]] = {
    code: (entry.happened or "", entry.advice or "") for code, entry in error_codes.TRACK.items()
}
NO_ADVICE = ("A failure that this version of the report does not know.", "See the message of each track.")


def number(value: float) -> str:
    """Return a count with thousands separated."""
    return f"{value:,.0f}"


def share(part: float, whole: float) -> str:
    """Return ``part`` of ``whole`` in percent, ``< 0.1 %`` rather than a zero that is none."""
    if not whole or not part:
        return "0 %"
    percent = 100 * part / whole
    if percent < 0.1:
        return "< 0.1 %"
    if part < whole and percent > 99.9:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %"


def clock(seconds: float | None) -> str:
    """Return a length of time as ``M:SS`` or ``H:MM:SS``."""
    if seconds is None:
        return "–"
    return wording.clock(seconds)


def amount(seconds: float) -> str:
    """Return an amount of audio: ``45 s``, ``12.5 min``, ``3.2 h``, ``1,204 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def size(num_bytes: float) -> str:
    """Return bytes in decimal units, as stores bill them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" or num_bytes >= 100 else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} PB"


def khz(sample_rate: int) -> str:
    """Return a rate in Hz as kHz, ``–`` when it is not known."""
    return f"{sample_rate / 1000:g} kHz" if sample_rate else "–"


def fallback(facts: FallbackFacts) -> str:
    """Return how many of a head's windows went to which model: ``12% of 8,311 windows, below 0.5, went to large``."""
    if not facts.num_windows:  # nothing was scored
        return f"windows below a score of {facts.threshold:g} go to {facts.name}"
    sent = share(facts.num_sent, facts.num_windows).replace(" ", "")
    return f"{sent} of {wording.counted(facts.num_windows, 'window')}, below {facts.threshold:g}, went to {facts.name}"
