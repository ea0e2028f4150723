"""How counts, lists and times are said to a person: ``1 track``, ``jazz, rock and 7 more``, ``12.5 min``, ``3:20``."""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping, Sequence


def counted(count: float, noun: str, one: str = "", many: str = "") -> str:
    """Return a count with its noun, and what follows where that depends on the number.

    Args:
        noun: of one, with whatever stands before it: ``track``, ``scoring worker``, ``other class``.
        one, many: what follows: ``is missing`` and ``are missing``.
    """
    number = f"{count:,}" if isinstance(count, numbers.Integral) else f"{count:g}"
    if count == 1:
        return " ".join(filter(None, (number, noun, one)))
    return " ".join(filter(None, (number, _plural(noun), many or one)))


def _plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def some(names: Sequence[str], most: int) -> str:
    """Return the first ``most`` names, and how many more there are: ``jazz, rock and 7 more``."""
    if len(names) <= most + 1:  # "and 1 more" is no shorter than the name
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"


def by_count(counts: Mapping[str, int], most: int = 10**6) -> str:
    """Return the largest counts with what they are of: ``12 jazz, 3 rock and 7 more``."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return some([f"{count:,} {name}" for name, count in ordered], most)


def hours(seconds: float) -> str:
    """Return ``seconds`` of audio as a person says it: ``45 s``, ``12.5 min``, ``3.2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def clock(seconds: float) -> str:
    """Return ``seconds`` as ``M:SS`` or ``H:MM:SS``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def fitting(forms: Sequence[str], width: int) -> str:
    """Return the first of several forms of a line, the fullest first, that fits; or the last one, cut in its middle."""
    for form in forms:
        if len(form) <= width:
            return form
    return cut(forms[-1], width)


def cut(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters, with ``…`` for its middle where it is longer."""
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - max(0, width - head - 1) :]}"
