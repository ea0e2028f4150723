"""Chained Ogg: several streams one after the other, each with its own rate; FFmpeg reads the first, and little more."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.readers.declared import EncodedFile
from tonearm.audio.readers.ffmpeg import FFmpegSource
from tonearm.audio.readers.source import Source
from tonearm.errors import DecodeError

MAGIC, HEADER, FIRST_PAGE = b"OggS", 27, 0x02
_PAGE = re.compile(rb"OggS\0[\0-\7]")


def links(data: bytes | memoryview) -> list[int]:
    """Return where each link of a chained file begins; one for a file that is not chained, none for another kind.

    What stands between pages is passed over, as decoders do.
    """
    starts: list[int] = []
    at, is_inside = 0 if bytes(data[:4]) == MAGIC else len(data), True
    while at + HEADER <= len(data):
        end = _end_of_page(data, at)
        if end < len(data) and bytes(data[end : end + 4]) != MAGIC:
            end = _next_page(data, at + 4)  # something stands behind it, or its own end is missing
        is_first = bool(data[at + 5] & FIRST_PAGE)
        # The streams of one link all begin together; a beginning after that is another link's.
        if is_first and is_inside:
            starts.append(at)
        is_inside = not is_first
        at = end
    return starts


def _end_of_page(data: bytes | memoryview, at: int) -> int:
    num_segments = data[at + 26]
    return at + HEADER + num_segments + sum(data[at + HEADER : at + HEADER + num_segments])


def _next_page(data: bytes | memoryview, at: int) -> int:
    """Return where the next page begins that another one follows, or the end of the file."""
    for page in _PAGE.finditer(data, at):
        if page.start() + HEADER <= len(data):
            end = _end_of_page(data, page.start())
            if end >= len(data) or bytes(data[end : end + 4]) == MAGIC:
                return page.start()
    return len(data)


@dataclasses.dataclass
class ChainedSource(Source):
    """The links of a chained file, one after the other."""

    parts: tuple[FFmpegSource, ...] = ()
    num_unread: int = 0
    unread_share: float = 0.0

    @classmethod
    def of(cls, data: bytes | memoryview, starts: list[int]) -> ChainedSource:
        """Return the links that begin at ``starts``, opened; one that cannot be is left out and counted.

        Raises:
            DecodeError: as ``FFmpegSource.open``, of the last link, where none can be opened.
        """
        parts, num_unread, unread_bytes = [], 0, 0
        for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
            try:
                parts.append(FFmpegSource.open(EncodedFile.of(data[start:stop])))
            except DecodeError:
                num_unread, unread_bytes = num_unread + 1, unread_bytes + stop - start
                if num_unread == len(starts):
                    raise
        first = parts[0]
        lengths = [part.declared_s for part in parts]
        total = None if num_unread or None in lengths else sum(filter(None, lengths))
        return cls(
            first.codec,
            first.sample_rate,
            first.channels,
            total,
            first.metadata,
            parts=tuple(parts),
            num_unread=num_unread,
            unread_share=unread_bytes / (len(data) - starts[0]),
        )

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield the audio from the start."""
        read_s = 0.0
        for part in self.parts:
            for block, rate in part.blocks():
                read_s += len(block) / rate
                yield block, rate
        self.num_errors = self.num_unread + sum(part.num_errors for part in self.parts)
        # Of a link that cannot be opened the bytes are all that is known.
        self.lost_s = sum(part.lost_s for part in self.parts) + read_s * self.unread_share / (1 - self.unread_share)
