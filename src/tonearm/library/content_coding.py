"""HTTP's content codings: undone although none was asked for, since some servers compress all the same.

aiohttp undoes a single one of those that are common, a piece at a time. Here is what it passes on as it comes: several
on top of each other, and the old name of gzip. Some servers send what is no coding, such as ``none`` or ``utf-8``; it
means nothing.
"""

from __future__ import annotations

import gzip
import io
import zlib

from tonearm.errors import FetchError

UNDONE_BY_AIOHTTP = frozenset({"gzip", "deflate", "br", "zstd"})
GZIP = ("gzip", "x-gzip")
NOT_UNDONE = ("br", "zstd", "compress", "x-compress", "dcb", "dcz")
KNOWN = frozenset({*UNDONE_BY_AIOHTTP, *GZIP, *NOT_UNDONE})


def codings(header: str) -> list[str]:
    """Return the codings in a ``Content-Encoding``, the one that was applied last at the end."""
    return [coding for part in header.split(",") if (coding := part.strip().lower()) in KNOWN]


def is_undone(header: str) -> bool:
    """Return whether aiohttp undoes this ``Content-Encoding``."""
    return header.lower() in UNDONE_BY_AIOHTTP


def unpacked(data: bytes, header: str, limit: int) -> bytes:
    """Return at most ``limit`` bytes of a body with the codings undone that aiohttp has left.

    Raises:
        FetchError: it is packed otherwise than ``header`` says, or in a way that is not known.
    """
    if is_undone(header):
        return data
    for coding in reversed(codings(header)):
        if coding in NOT_UNDONE:
            raise FetchError(f"the answer is packed as {header[:80]}, expected gzip or deflate", code="fetch_failed")
        try:
            if coding in GZIP:
                with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                    data = file.read(limit)
            elif coding == "deflate":
                data = zlib.decompressobj().decompress(data, limit)
        except (OSError, EOFError, zlib.error) as error:
            raise FetchError(f"the answer is not {coding}, as it says ({error})", code="fetch_failed") from None
    return data
