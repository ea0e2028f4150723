"""What a track is called when nothing but its URI is known, and file names that every system takes."""

from __future__ import annotations

import posixpath
import re
import urllib.parse

from tonearm.storage.uris import split_url

# 255 bytes is the usual limit of a file name; the rest is left for a key and an extension.
MAX_NAME_BYTES = 200
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\u2028\u2029]')
# Windows takes none of these as a name, with whatever extension.
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def track_name(uri: str) -> str:
    """Return the last part of a URI without its extension: ``01 Blue`` of ``s3://records/x/01 Blue.flac``."""
    path = uri
    if uri.startswith(("http://", "https://", "file://")):
        path = urllib.parse.unquote(split_url(uri).path)
    base = posixpath.basename(path.rstrip("/")) or path
    stem, extension = posixpath.splitext(base)
    # `Symphony No. 5` has no extension.
    return stem if re.fullmatch(r"\.\w{1,5}", extension) else base


def file_name(text: str) -> str:
    """Return ``text`` as a file name without extension, at most 200 bytes of UTF-8, never empty."""
    name = FORBIDDEN.sub("_", text).strip().rstrip(". ")
    name = name.encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore").rstrip(". ")
    if not name or name.startswith("."):
        name = f"_{name}"
    return f"_{name}" if RESERVED.fullmatch(name) else name
