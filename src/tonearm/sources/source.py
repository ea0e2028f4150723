"""What a source is: the contract of ``registry.KINDS`` and of what other packages add to it."""

from __future__ import annotations

import dataclasses
import io
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from tonearm.errors import FetchError, SourceError
from tonearm.sources.track_ref import TrackRef
from tonearm.storage.store_errors import Failure
from tonearm.storage.uris import shown
from tonearm.wording import counted

if TYPE_CHECKING:
    from tonearm.storage.allowed_uris import AllowedUris

CHUNK_BYTES = 2**20
# What the tracks of a source are: all that is at or below its name, the one object of that name, or what it says.
Shape = Literal["prefix", "object", "list"]


class LabelledRows(NamedTuple):
    """Tracks with the columns of their rows, and the column that holds the labels."""

    rows: Iterator[tuple[TrackRef, Mapping[str, Any]]]
    label_by: str


@dataclasses.dataclass(frozen=True)
class ReadLimits:
    """What reading one object may take.

    Attributes:
        deadline: of ``time.monotonic``; past it a ``TimeoutError`` ends the attempt.
        stall_s: how long a connection may be silent.
        allowed: where HTTP redirects may lead; None for anywhere.
    """

    max_bytes: int
    deadline: float
    stall_s: float
    allowed: AllowedUris | None = None

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


class Source(Protocol):
    """Lists tracks, and reads one.

    tonearm asks for ``matches`` before anything else, opens every SOURCE before the first track is taken, drops objects
    that come twice, and stops reading a listing at ``--limit``. Listing is lazy: one page or folder in memory.

    Order is the source's, and should be the same each time. A track is known by its URI, size, ETag and time of change,
    so those are given where they can be had for nothing, and are the same as long as the object is.

    Reading happens in many processes at once, each of which makes its own instance. tonearm retries: ``read`` tries
    once. It returns the whole object or raises: ``FetchError`` with the code of ``tonearm.errors.TRACK_CODES`` where
    trying again is of no use, any ``OSError`` where it may help.

    A listing that cannot be made raises ``SourceError``. Anything else is reported as the source's own fault. A name
    for a message goes through ``tonearm.storage.uris.shown``, which leaves credentials out.

    Attributes:
        schemes: of the URIs that it reads, without ``://``. Another package's is the name of its entry point.
        has_ranges: whether ``tonearm.storage.filesystems`` reads parts of its objects.
        shape: see ``Shape``.
    """

    @property
    def schemes(self) -> tuple[str, ...]: ...

    @property
    def has_ranges(self) -> bool: ...

    @property
    def shape(self) -> Shape: ...

    def matches(self, source: str) -> bool:
        """Return whether SOURCE, as a person wrote it, is one of this kind."""
        ...

    def list(self, source: str, skipped: Counter[str]) -> Iterator[TrackRef]:
        """Yield the tracks of SOURCE; count what is no audio in ``skipped``, by extension."""
        ...

    def labelled(self, source: str, label_by: str | None, columns: Sequence[str]) -> LabelledRows | None:
        """Return the tracks with their columns, ``label_by`` settled; None where tracks have only names."""
        ...

    def read(self, ref: TrackRef, limits: ReadLimits) -> bytes:
        """Return the bytes of one object, once, in the version that was listed."""
        ...


class Retry(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def failed(ref: TrackRef, failure: Failure) -> Exception:
    """Return what to raise for a failure of a store: ``Retry`` where another attempt may help."""
    if failure.is_transient:
        return Retry(failure)
    if failure.kind == "changed":
        return changed(ref)
    return FetchError(f"{shown(ref.uri)} cannot be read ({failure.reason})", code=failure.fetch_code)


def changed(ref: TrackRef) -> FetchError:
    """Return the error for an object that is another version than the listed one."""
    return FetchError(
        f"{shown(ref.uri)} is not the version that was listed; run again to list the new one", code="changed"
    )


def check_size(ref: TrackRef, num_bytes: int | None, limit: int) -> None:
    """Refuse an object that is too large.

    Raises:
        FetchError: too_large.
    """
    if num_bytes is not None and num_bytes > limit:
        message = f"{shown(ref.uri)} has {counted(num_bytes, 'byte')} or more, over fetch.max_bytes = {limit:,}"
        raise FetchError(message, code="too_large")


def append(ref: TrackRef, buffer: io.BytesIO, chunk: bytes, limit: int) -> None:
    """Add to what was read so far.

    Raises:
        FetchError: too_large.
    """
    check_size(ref, buffer.tell() + len(chunk), limit)
    buffer.write(chunk)


def only_label(names: Sequence[str], source: str, what: str) -> str:
    """Return the one column that labels can be taken from.

    Raises:
        SourceError: there is none, or more than one.
    """
    if len(names) != 1:
        got = ", ".join(names) or "none"
        raise SourceError(f"{shown(source)}: got {got}, expected one {what} with the labels; name it with --label-by")
    return names[0]
