"""HTTP's content codings: undone although none was asked for, since some servers compress all the same.

aiohttp undoes some of them, but does not notice where a packed body ends too early; so all of it is done here. Some
servers send what is no coding, such as ``none`` or ``utf-8``; it means nothing.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import zlib
from collections.abc import Callable

from tonearm.errors import FetchError

NOT_UNDONE = frozenset({"zstd", "compress", "x-compress", "dcb", "dcz"})
PIECE_BYTES = 64 * 1024


def codings(header: str) -> list[str]:
    """Return the codings in a ``Content-Encoding``, the one that was applied last at the end."""
    known = {*UNPACKERS, *NOT_UNDONE}
    return [coding for part in header.split(",") if (coding := part.strip().lower()) in known]


def unpacked(data: bytes, header: str, limit: int) -> bytes:
    """Return at most ``limit`` bytes of a body with its codings undone.

    Raises:
        FetchError: it is packed otherwise than ``header`` says, ends early, or is packed in a way that is not known.
    """
    for coding in reversed(codings(header)):
        if coding in NOT_UNDONE or (coding == "br" and importlib.util.find_spec("brotli") is None):
            raise FetchError(f"the answer is packed as {header[:80]}, expected gzip or deflate", code="fetch_failed")
        try:
            data = UNPACKERS[coding](data, limit)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise FetchError(f"the answer is not {coding}, as it says ({error})", code="fetch_failed") from None
    return data


def _gzip(data: bytes, limit: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        return file.read(limit)


def _deflate(data: bytes, limit: int) -> bytes:
    try:
        return _zlib(data, limit, zlib.MAX_WBITS)
    except zlib.error:
        return _zlib(data, limit, -zlib.MAX_WBITS)  # without zlib's header, as some servers send it


def _zlib(data: bytes, limit: int, window_bits: int) -> bytes:
    unpacker = zlib.decompressobj(window_bits)
    found = unpacker.decompress(data, limit)
    if not unpacker.eof and len(found) < limit:
        raise EOFError("it ends early")
    return found


def _brotli(data: bytes, limit: int) -> bytes:
    import brotli

    unpacker, found, fed = brotli.Decompressor(), bytearray(), 0
    try:
        while len(found) < limit and not unpacker.is_finished():
            piece = b"" if not unpacker.can_accept_more_data() else data[fed : fed + PIECE_BYTES]
            if unpacker.can_accept_more_data() and not piece:
                raise EOFError("it ends early")
            fed += len(piece)
            found += unpacker.process(piece, output_buffer_limit=PIECE_BYTES)
    except brotli.error as error:
        raise ValueError(str(error)) from None
    return bytes(found[:limit])


UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
}
