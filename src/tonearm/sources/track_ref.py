"""One listed object, and the key that it keeps for as long as it does not change."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# What a column of int64 holds; a longer size is not that of an object.
MAX_SIZE_BYTES = 2**63 - 1
_MICROSECOND = datetime.timedelta(microseconds=1)


@dataclasses.dataclass(frozen=True, slots=True)
class TrackRef:
    """One audio object at one version. Size, ETag and time are None where the source does not tell.

    Attributes:
        track_key: positive int64, see ``track_key``.
        uri: see ``tonearm.storage.uris``.
        modified: UTC, to the microsecond.
    """

    track_key: int
    uri: str
    size_bytes: int | None
    etag: str | None
    modified: datetime.datetime | None


def track_key(
    uri: str, size_bytes: int | None, etag: str | None, modified: datetime.datetime | None, salt: int = 0
) -> int:
    """Return the positive int64 that stands for one version of one object, the same on every machine.

    Args:
        salt: another key for the same object, when its own is taken by a different one.
    """
    microseconds = None if modified is None else (modified - EPOCH) // _MICROSECOND
    text = f"{uri}\0{size_bytes}\0{etag}\0{microseconds}\0{salt or ''}"
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1 or 1


def make_ref(
    uri: str, size_bytes: int | None = None, etag: str | None = None, modified: datetime.datetime | None = None
) -> TrackRef:
    """Return the ref of an object, its key included."""
    return TrackRef(track_key(uri, size_bytes, etag, modified), uri, size_bytes, etag, modified)


def from_nanoseconds(time_ns: int) -> datetime.datetime | None:
    """Return a file's ``st_mtime_ns`` as UTC, cut to the microsecond without passing through a float.

    Returns:
        None for a time before the year 1 or past 9999, which says nothing about a file.
    """
    try:
        return EPOCH + datetime.timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return None


def from_seconds(time_s: float) -> datetime.datetime | None:
    """Return a time since 1970 as UTC; None as in ``from_nanoseconds``, and for what is no number."""
    try:
        return EPOCH + datetime.timedelta(seconds=time_s)
    except (OverflowError, ValueError):
        return None


def to_utc(time: datetime.datetime) -> datetime.datetime | None:
    """Return a time as UTC, which it is where it has no zone; None where UTC has left the years 1 to 9999."""
    if time.tzinfo is None:
        return time.replace(tzinfo=datetime.UTC)
    try:
        return time.astimezone(datetime.UTC)
    except OverflowError:
        return None
