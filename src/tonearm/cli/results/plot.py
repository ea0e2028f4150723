"""``tonearm plot``: the pictures of a track, and where they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Unpack

from tonearm.api import pictures
from tonearm.api.flags import ModelFlags
from tonearm.cli.output import Output
from tonearm.storage.uris import visible


def plot(source: str, out: Path, *, timeline: bool = False, as_json: bool = False, **flags: Unpack[ModelFlags]) -> int:
    """Draw, and print the paths of the pictures; return the exit status."""
    drawn = pictures.plot(source, out=out, timeline=timeline, **flags)
    if drawn.shown_s < drawn.duration_s:
        print(f"shown are the middle {drawn.shown_s:.0f} s of {drawn.duration_s:.0f} s", file=sys.stderr)
    if not as_json:
        for path in drawn.paths:
            print(visible(str(path)))
    Output(as_json).result(drawn)
    return 0
