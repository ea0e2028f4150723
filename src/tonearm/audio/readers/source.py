"""What every reader of encoded audio gives: a description, and blocks of mono float32 at the file's own rate."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Seconds of audio that one block holds: long enough that work per block, not per codec frame, counts; but no more than
# so many values of all channels, which rates and channels without bounds would exceed.
BLOCK_S, BLOCK_VALUES = 4.0, 2**22


class PartReader(Protocol):
    """Reads parts of a file; ``num_samples`` is the exact length of the whole."""

    num_samples: int

    def read(self, spans: Sequence[tuple[int, int]]) -> list[NDArray[np.float32]] | None:
        """Return each ``[start, stop)``, ascending, as mono float32 [samples]; None where there is doubt after all."""
        ...


@dataclasses.dataclass
class Source:
    """An opened file.

    ``blocks`` yields ``(mono float32 [samples], sample_rate)``. ``num_errors`` counts what it had to leave out so far,
    and ``lost_s`` how long that was, as far as it is known; ``shown_share`` is that of the audio's bytes that the file
    has of those that its header announces. ``metadata`` holds every byte as a character, see
    ``tags.decoded``; ``says_latin_1`` is that of the ID3 tag it comes from.
    """

    codec: str
    sample_rate: int
    channels: int
    declared_s: float | None
    metadata: Mapping[str, str]
    num_errors: int = 0
    lost_s: float = 0.0
    shown_share: float = 1.0
    says_latin_1: bool = False

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield the audio from the start; each call starts again."""
        raise TypeError("open_source returns a Source that knows how to read")

    def is_declared(self) -> bool:
        """Return whether ``declared_s`` is what the file says, rather than an estimate from its size."""
        return self.declared_s is not None

    def in_parts(self) -> contextlib.AbstractContextManager[PartReader | None]:
        """Give what reads parts of the file while the block runs.

        None where anything about the file leaves doubt that the parts are those of the whole: then read the whole.
        """
        return contextlib.nullcontext()


def block_length(sample_rate: int, channels: int) -> int:
    """Return how many samples of each channel are read at once."""
    return max(1, min(int(BLOCK_S * sample_rate), BLOCK_VALUES // max(1, channels)))


class View(io.RawIOBase):
    """A buffer as a file, without the copy that ``BytesIO`` makes of what is not ``bytes``."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, target: WriteableBuffer, /) -> int:
        place = memoryview(target).cast("B")
        part = self._data[self._position : self._position + len(place)]
        place[: len(part)] = part
        self._position += len(part)
        return len(part)

    def read(self, size: int | None = -1, /) -> bytes:
        stop = len(self._data) if size is None or size < 0 else self._position + size
        part = bytes(self._data[self._position : stop])
        self._position += len(part)
        return part


def as_file(data: bytes | memoryview) -> io.BytesIO | View:
    """Return encoded bytes as a file that can be read and sought in."""
    return io.BytesIO(data) if isinstance(data, bytes) else View(data)
