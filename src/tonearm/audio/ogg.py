"""Chained Ogg: several streams one after the other, each with its own rate; FFmpeg reads the first, and little more."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tonearm.audio.ffmpeg import FFmpegSource
from tonearm.audio.source import Source
from tonearm.errors import DecodeError

MAGIC, HEADER, FIRST_PAGE = b"OggS", 27, 0x02


def links(data: bytes | memoryview) -> list[int]:
    """Return where each link of a chained file begins; one for a file that is not chained, none for another kind."""
    starts: list[int] = []
    at, is_inside = 0, True
    while at + HEADER <= len(data) and bytes(data[at : at + 4]) == MAGIC:
        is_first = bool(data[at + 5] & FIRST_PAGE)
        # The streams of one link all begin together; a beginning after that is another link's.
        if is_first and is_inside:
            starts.append(at)
        is_inside = not is_first
        num_segments = data[at + 26]
        at += HEADER + num_segments + sum(data[at + HEADER : at + HEADER + num_segments])
    return starts


@dataclasses.dataclass
class ChainedSource(Source):
    """The links of a chained file, one after the other."""

    parts: tuple[FFmpegSource, ...] = ()
    num_unread: int = 0

    @classmethod
    def of(cls, data: bytes | memoryview, starts: list[int]) -> ChainedSource:
        """Return the links that begin at ``starts``, opened.

        Raises:
            DecodeError: as ``FFmpegSource.open``, of the first link.
        """
        parts, num_unread = [], 0
        for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
            try:
                parts.append(FFmpegSource.open(data[start:stop]))
            except DecodeError:
                if not parts:
                    raise
                num_unread += 1
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
        )

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield the audio from the start."""
        for part in self.parts:
            yield from part.blocks()
        self.num_errors = self.num_unread + sum(part.num_errors for part in self.parts)
        self.lost_s = sum(part.lost_s for part in self.parts)
