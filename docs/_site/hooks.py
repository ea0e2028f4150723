"""What MkDocs calls while it builds: puts in what is generated, and refuses a page that needs a network.

A line ``<!-- generated: NAME -->`` of a page is replaced by ``generate.SECTIONS[NAME]``: nothing that is generated is
committed, so nothing can go stale.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

sys.path.insert(0, str(Path(__file__).parent))
import generate

MARK = re.compile(r"^<!-- generated: (\S+) -->$", re.M)
# The words behind a fence's language say which test runs it (tests/docs_fences.py); they are not for readers.
FENCE = re.compile(r"^(```\w+)[ \t]+\S.*$", re.M)
# Links may lead elsewhere. What a page loads by itself may not.
LOADED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//"
    r"|<link[^>]*rel=\"?(?:stylesheet|preload|preconnect)[^>]*//",
    re.I,
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with its generated sections."""

    def section(mark: re.Match[str]) -> str:
        if mark[1] not in generate.SECTIONS:
            raise PluginError(f"no section {mark[1]} is generated; expected one of {', '.join(generate.SECTIONS)}")
        return generate.SECTIONS[mark[1]]()

    return FENCE.sub(r"\1", MARK.sub(section, markdown))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Return the page as it is, unless reading it would ask another host."""
    if foreign := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} would load something from another host: {foreign[0]}")
    return output
