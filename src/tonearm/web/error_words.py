"""The page's words for error codes, from the one table of them: ``python -m tonearm.web.error_words`` writes it."""

from __future__ import annotations

import json
from pathlib import Path

from tonearm import error_codes

FILE = Path(__file__).parent / "page" / "error_words.js"
HEAD = "// What a person is told; other codes come with the server's own words. Written by tonearm.web.error_words."


def page_module() -> str:
    """Return the page's module of words by code."""
    codes = {**error_codes.TRACK, **error_codes.REQUEST}
    lines = [f"  {code}: {json.dumps(entry.page)}," for code, entry in codes.items() if entry.page is not None]
    return "\n".join([HEAD, "export const WORDS = {", *lines, "};", ""])


if __name__ == "__main__":
    FILE.write_text(page_module())
