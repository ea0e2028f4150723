"""Reading one object whole: bounded in bytes and time, retried while that can help, and only the listed version."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import tenacity

from tonearm.errors import FetchError, SourceError, TrackError
from tonearm.sources.registry import reader_of
from tonearm.sources.source import ReadLimits, Retry, Source, changed, check_size, failed
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import filesystems
from tonearm.storage.store_errors import BROKEN, diagnose
from tonearm.storage.uris import scheme, shown, to_unicode
from tonearm.wording import counted

if TYPE_CHECKING:
    from tonearm.settings import FetchSettings
    from tonearm.storage.allowed_uris import AllowedUris

MAX_WAIT_S = 20.0


class Ends(NamedTuple):
    """The first and the last bytes of an object."""

    head: bytes
    tail: bytes


class ObjectReader:
    """Reads tracks' bytes from wherever their URIs point. Cheap to make, safe between threads and after a fork.

    Args:
        allowed: where HTTP redirects may lead; None for anywhere.
    """

    def __init__(self, settings: FetchSettings, allowed: AllowedUris | None = None) -> None:
        self.settings = settings
        self.allowed = allowed

    def read(self, ref: TrackRef) -> bytes:
        """Return the object's bytes: one GET an object on S3 and over HTTP, on the condition of the listed ETag.

        Raises:
            FetchError: not_found, access_denied (after ``num_attempts`` where the credentials were not recognized),
                too_large, changed, fetch_timeout (all attempts together took longer than ``timeout_s``), or
                fetch_failed, after ``num_attempts`` where another one could have helped. Nothing else is raised,
                whatever a URI, a store or a file does, but ``failures.BROKEN``.
        """
        settings = self.settings
        check_size(ref, ref.size_bytes, settings.max_bytes)
        deadline = time.monotonic() + settings.timeout_s
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(settings.num_attempts) | tenacity.stop_before_delay(settings.timeout_s),
            wait=tenacity.wait_exponential_jitter(
                initial=settings.backoff_s, max=MAX_WAIT_S, jitter=settings.backoff_s
            ),
            retry=tenacity.retry_if_exception_type(Retry),
        )
        try:
            data: bytes = retrying(self._attempt, ref, deadline)
        except tenacity.RetryError as error:
            num_attempts, last = error.last_attempt.attempt_number, error.last_attempt.exception()
            tries = counted(num_attempts, "attempt")
            if num_attempts < settings.num_attempts:
                raise _late(ref, settings.timeout_s, f"{tries}, the last: {last}") from None
            code = last.failure.fetch_code if isinstance(last, Retry) else "fetch_failed"
            raise FetchError(f"{shown(ref.uri)} cannot be read ({last}; {tries})", code=code) from None
        return data

    def read_ends(self, ref: TrackRef, head_bytes: int, tail_bytes: int) -> Ends | None:
        """Return the first and the last bytes of an object, by two ranged reads.

        Returns:
            None where the store knows no ranges, the size is not listed, or the whole is hardly more than both.

        Raises:
            FetchError: not_found, access_denied or fetch_failed.
        """
        size = ref.size_bytes
        # The two ranges would meet or overlap; reading the whole once is then less.
        if size is None or size <= head_bytes + tail_bytes:
            return None
        with _boundary(ref):
            if not _reader(ref).has_ranges:
                return None
            place = filesystems.locate(ref.uri)
            head = place.store.cat_file(place.path, start=0, end=head_bytes)
            return Ends(head, place.store.cat_file(place.path, start=size - tail_bytes))

    def _attempt(self, ref: TrackRef, deadline: float) -> bytes:
        limits = ReadLimits(self.settings.max_bytes, deadline, self.settings.stall_timeout_s, self.allowed)
        with _boundary(ref, self.settings.timeout_s, deadline, retry=True):
            if limits.left_s <= 0:
                raise TimeoutError
            data = _reader(ref).read(ref, limits)
        check_size(ref, len(data), limits.max_bytes)
        if ref.size_bytes is not None and len(data) != ref.size_bytes:
            raise changed(ref)
        return data


@contextlib.contextmanager
def _boundary(
    ref: TrackRef, timeout_s: float = 0.0, deadline: float = math.inf, *, retry: bool = False
) -> Iterator[None]:
    """Turn whatever reading a track raises into the track's error: what one track does must not end a run.

    Raises:
        FetchError: it cannot be read.
        Retry: with ``retry``, where another attempt may help.
    """
    try:
        yield
    except (TrackError, Retry, *BROKEN):
        raise
    except SourceError as error:
        raise FetchError(error.message, code="fetch_failed") from None
    except Exception as error:  # noqa: BLE001  the row boundary
        if time.monotonic() >= deadline:
            raise _late(ref, timeout_s, "still reading") from None
        failure = diagnose(error)
        raise failed(ref, failure if retry else dataclasses.replace(failure, is_transient=False)) from None


def _reader(ref: TrackRef) -> Source:
    """Return what reads a track; refuse what no store can have before one is asked.

    Raises:
        FetchError: not_found.
    """
    kind = reader_of(ref.uri)
    if kind is None:
        raise FetchError(f"{shown(ref.uri)} is no object; expected {filesystems.KNOWN}", code="not_found")
    # Clients of stores encode a URL in UTF-8 and raise on a lone surrogate; a path on disk may hold any bytes.
    if scheme(ref.uri) != "file" and to_unicode(ref.uri) != ref.uri:
        raise FetchError(f"{shown(ref.uri)} is not Unicode, as every URL is", code="not_found")
    return kind


def _late(ref: TrackRef, timeout_s: float, state: str) -> FetchError:
    return FetchError(
        f"{shown(ref.uri)} took longer than fetch.timeout_s = {timeout_s:g} ({state})", code="fetch_timeout"
    )
