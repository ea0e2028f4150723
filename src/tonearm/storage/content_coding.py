"""HTTP's content codings: of what servers send, although none was asked for, and of what clients upload.

aiohttp undoes some of them, but does not notice where a packed body ends too early; so all of it is done here. Some
servers send what is no coding, such as ``none`` or ``utf-8``; it means nothing. Nothing is unpacked further than asked
for, since a kilobyte may stand for a gigabyte.
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from tonearm.errors import FetchError

NOT_UNDONE = frozenset({"zstd", "compress", "x-compress", "dcb", "dcz"})
PIECE_BYTES = 64 * 1024
GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS


class Unpacker(Protocol):
    """Undoes one coding of a body that comes in parts."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` unpacks to, in pieces of some ``PIECE_BYTES``, each made when it is asked for.

        Raises:
            ValueError, zlib.error: it is packed otherwise.
        """

    def end(self) -> None:
        """Note that there is no more.

        Raises:
            EOFError: it ends early.
        """


def codings(header: str) -> list[str]:
    """Return the codings in a ``Content-Encoding``, the one that was applied last at the end."""
    known = {*UNPACKERS, *NOT_UNDONE}
    return [coding for part in header.split(",") if (coding := part.strip().lower()) in known]


def supported() -> list[str]:
    """Return the codings that are undone here, as ``Accept-Encoding`` names them."""
    return ["gzip", "deflate", *(["br"] if importlib.util.find_spec("brotli") else [])]


def unpacker(coding: str) -> Unpacker | None:
    """Return what undoes a coding, or None where nothing here does."""
    coding = coding.strip().lower()
    return UNPACKERS[coding]() if coding.removeprefix("x-") in supported() and coding in UNPACKERS else None


def unpacked(data: bytes, header: str, limit: int) -> bytes:
    """Return at most ``limit`` bytes of a body with its codings undone.

    Raises:
        FetchError: it is packed otherwise than ``header`` says, ends early, or is packed in a way that is not known.
    """
    for coding in reversed(codings(header)):
        unpacking = unpacker(coding)
        if unpacking is None:
            raise FetchError(f"the answer is packed as {header[:80]}, expected gzip or deflate", code="fetch_failed")
        try:
            data = _whole(unpacking, data, limit)
        except (EOFError, ValueError, zlib.error) as error:
            raise FetchError(f"the answer is not {coding}, as it says ({error})", code="fetch_failed") from None
    return data


def _whole(unpacking: Unpacker, data: bytes, limit: int) -> bytes:
    body = bytearray()
    for piece in unpacking.feed(data):
        body += piece
        if len(body) >= limit:
            return bytes(body[:limit])
    unpacking.end()
    return bytes(body)


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self.inner: Any = zlib.decompressobj(window_bits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while not self.inner.eof:
            piece = self.inner.decompress(data, PIECE_BYTES)
            data = self.inner.unconsumed_tail
            if piece:
                yield piece
            elif not data:
                return

    def end(self) -> None:
        if not self.inner.eof:
            raise EOFError("it ends early")


class _Gzip(_Zlib):
    """One member after the other, with zeros between them perhaps, as gzip and Python's module take them."""

    def __init__(self) -> None:
        super().__init__(GZIP_WINDOW_BITS)
        self.is_empty = True
        self.head = b""  # of a further member, as far as it has come

    def feed(self, data: bytes) -> Iterator[bytes]:
        self.is_empty = self.is_empty and not data
        while True:
            if self.inner.eof:
                data = self.head + (data if self.head else data.lstrip(b"\0"))
                self.head = b""
                if not GZIP_MAGIC.startswith(data[:2]):
                    raise ValueError("something follows its end that is not another gzip member")
                if len(data) < len(GZIP_MAGIC):
                    self.head = data
                    return
                self.inner = zlib.decompressobj(GZIP_WINDOW_BITS)
            yield from super().feed(data)
            if not self.inner.eof:
                return
            data = self.inner.unused_data

    def end(self) -> None:
        if self.head:
            raise EOFError("it ends early")
        if not self.is_empty:  # nothing at all is what nothing is packed as by some
            super().end()


class _Deflate:
    """With zlib's header, as the standard has it, or without, as some send it."""

    def __init__(self) -> None:
        self.inner: _Zlib | None = None
        self.head = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self.inner is None:
            data = self.head + data
            if len(data) < 2:
                self.head = data
                return
            has_header = data[0] & 0x0F == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0
            self.inner = _Zlib(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        yield from self.inner.feed(data)

    def end(self) -> None:
        if self.inner is None:
            raise EOFError("it ends early")
        self.inner.end()


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self.inner: Any = brotli.Decompressor()
        self.error = brotli.error

    def feed(self, data: bytes) -> Iterator[bytes]:
        fed = 0
        try:
            while not self.inner.is_finished():
                part = b""
                if self.inner.can_accept_more_data():
                    part = data[fed : fed + PIECE_BYTES]
                    fed += len(part)
                # It takes more than it gives: what is left to give comes for nothing more.
                piece = self.inner.process(part, output_buffer_limit=PIECE_BYTES)
                if piece:
                    yield piece
                elif not part:
                    return
        except self.error as error:
            raise ValueError(str(error)) from None

    def end(self) -> None:
        if not self.inner.is_finished():
            raise EOFError("it ends early")


UNPACKERS: dict[str, Callable[[], Unpacker]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
}
