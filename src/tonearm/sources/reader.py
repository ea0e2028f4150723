"""Reading one object whole: bounded in bytes and time, retried while that can help, and only the listed version."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import math
import os
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import tenacity

from tonearm.errors import FetchError, SourceError, TrackError
from tonearm.sources import hub_datasets
from tonearm.sources.track_ref import TrackRef, from_nanoseconds
from tonearm.storage import content_coding, filesystems, http_objects
from tonearm.storage.allowed_uris import AllowedUris
from tonearm.storage.store_errors import BROKEN, Failure, diagnose, http_failure
from tonearm.storage.uris import SCHEMES, local_path, scheme, shown, split_bucket, to_unicode
from tonearm.wording import counted

if TYPE_CHECKING:
    import aiohttp

    from tonearm.settings import FetchSettings

CHUNK_BYTES = 2**20
MAX_WAIT_S = 20.0


class _Retry(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


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
        _check_size(ref, ref.size_bytes, settings.max_bytes)
        deadline = time.monotonic() + settings.timeout_s
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(settings.num_attempts) | tenacity.stop_before_delay(settings.timeout_s),
            wait=tenacity.wait_exponential_jitter(
                initial=settings.backoff_s, max=MAX_WAIT_S, jitter=settings.backoff_s
            ),
            retry=tenacity.retry_if_exception_type(_Retry),
        )
        try:
            data: bytes = retrying(self._attempt, ref, deadline)
        except tenacity.RetryError as error:
            num_attempts, last = error.last_attempt.attempt_number, error.last_attempt.exception()
            tries = counted(num_attempts, "attempt")
            if num_attempts < settings.num_attempts:
                raise _late(ref, settings.timeout_s, f"{tries}, the last: {last}") from None
            code = last.failure.fetch_code if isinstance(last, _Retry) else "fetch_failed"
            raise FetchError(f"{shown(ref.uri)} cannot be read ({last}; {tries})", code=code) from None
        return data

    def read_ends(self, ref: TrackRef, head_bytes: int, tail_bytes: int) -> tuple[bytes, bytes] | None:
        """Return the first and the last bytes of an object, by two ranged reads.

        Returns:
            None where the store knows no ranges, the size is not listed, or the whole is hardly more than both.

        Raises:
            FetchError: not_found, access_denied or fetch_failed.
        """
        kind, size = scheme(ref.uri), ref.size_bytes
        if size is None or size <= head_bytes + tail_bytes or kind in ("http", "https"):
            return None
        if hub_datasets.is_row(ref.uri):
            return None
        with _boundary(ref):
            _check_uri(ref)
            found, path = filesystems.filesystem(ref.uri)
            return found.cat_file(path, start=0, end=head_bytes), found.cat_file(path, start=size - tail_bytes)

    def _attempt(self, ref: TrackRef, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        kind, limit = scheme(ref.uri), self.settings.max_bytes
        with _boundary(ref, self.settings.timeout_s, deadline, retry=True):
            if left <= 0:
                raise TimeoutError
            _check_uri(ref)
            if hub_datasets.is_row(ref.uri):
                data = hub_datasets.read_row(ref)
            elif kind == "file":
                data = _read_local(ref, limit, deadline)
            elif kind == "s3":
                data = _read_s3(ref, limit, left, self.settings.stall_timeout_s)
            elif kind in ("http", "https"):
                data = _read_http(ref, limit, left, self.allowed)
            else:
                data = _read_other(ref, limit, deadline)
        _check_size(ref, len(data), limit)
        if ref.size_bytes is not None and len(data) != ref.size_bytes:
            raise _changed(ref)
        return data


@contextlib.contextmanager
def _boundary(
    ref: TrackRef, timeout_s: float = 0.0, deadline: float = math.inf, *, retry: bool = False
) -> Iterator[None]:
    """Turn whatever reading a track raises into the track's error: what one track does must not end a run.

    Raises:
        FetchError: it cannot be read.
        _Retry: with ``retry``, where another attempt may help.
    """
    try:
        yield
    except (TrackError, _Retry, *BROKEN):
        raise
    except SourceError as error:
        raise FetchError(error.message, code="fetch_failed") from None
    except Exception as error:  # noqa: BLE001  the row boundary
        if time.monotonic() >= deadline:
            raise _late(ref, timeout_s, "still reading") from None
        failure = diagnose(error)
        raise _failed(ref, failure if retry else dataclasses.replace(failure, is_transient=False)) from None


def _check_uri(ref: TrackRef) -> None:
    """Refuse what no store can have before one is asked.

    Raises:
        FetchError: not_found.
    """
    kind = scheme(ref.uri)
    if kind not in SCHEMES or (kind in ("hf", "arrow+file") and not hub_datasets.is_row(ref.uri)):
        raise FetchError(f"{shown(ref.uri)} is no object; expected {filesystems.KNOWN}", code="not_found")
    if kind != "file" and to_unicode(ref.uri) != ref.uri:
        raise FetchError(f"{shown(ref.uri)} is not Unicode, as every URL is", code="not_found")


def _failed(ref: TrackRef, failure: Failure) -> Exception:
    if failure.is_transient:
        return _Retry(failure)
    if failure.kind == "changed":
        return _changed(ref)
    return FetchError(f"{shown(ref.uri)} cannot be read ({failure.reason})", code=failure.fetch_code)


def _late(ref: TrackRef, timeout_s: float, state: str) -> FetchError:
    return FetchError(
        f"{shown(ref.uri)} took longer than fetch.timeout_s = {timeout_s:g} ({state})", code="fetch_timeout"
    )


def _changed(ref: TrackRef) -> FetchError:
    return FetchError(f"{shown(ref.uri)} is not the version that was listed; run again to list it anew", code="changed")


def _check_size(ref: TrackRef, num_bytes: int | None, limit: int) -> None:
    if num_bytes is not None and num_bytes > limit:
        message = f"{shown(ref.uri)} has {counted(num_bytes, 'byte')} or more, over fetch.max_bytes = {limit:,}"
        raise FetchError(message, code="too_large")


def _read_local(ref: TrackRef, limit: int, deadline: float) -> bytes:
    try:
        # O_NONBLOCK: a named pipe must not hold the worker up.
        descriptor = os.open(local_path(ref.uri), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise FetchError(
            f"{shown(ref.uri)} is no path, which has neither zero bytes nor surrogates", code="not_found"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, a device that is gone
            raise FetchError(f"{shown(ref.uri)} is not a file", code="not_found") from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FetchError(f"{shown(ref.uri)} is not a file", code="not_found")
        _check_size(ref, found.st_size, limit)
        if ref.modified is not None and from_nanoseconds(found.st_mtime_ns) != ref.modified:
            raise _changed(ref)
        buffer = io.BytesIO()
        while chunk := os.read(descriptor, 16 * CHUNK_BYTES):
            _append(ref, buffer, chunk, limit)
            if time.monotonic() >= deadline:
                raise TimeoutError
    finally:
        os.close(descriptor)
    return buffer.getvalue()


def _append(ref: TrackRef, buffer: io.BytesIO, chunk: bytes, limit: int) -> None:
    _check_size(ref, buffer.tell() + len(chunk), limit)
    buffer.write(chunk)


def _read_s3(ref: TrackRef, limit: int, timeout_s: float, stall_s: float) -> bytes:
    # The retries are ours, so that they are counted once.
    filesystem = filesystems.s3_filesystem(num_attempts=1, read_timeout_s=stall_s)
    bucket, key = split_bucket(ref.uri)
    condition = {"IfMatch": f'"{ref.etag}"'} if ref.etag else {}

    async def get() -> bytes:
        client = await filesystem.set_session()
        response = await client.get_object(Bucket=bucket, Key=key, **condition)
        async with response["Body"] as body:
            expected = response.get("ContentLength")
            if ref.etag and response.get("ETag", "").strip('"') != ref.etag:
                raise _changed(ref)
            return await _collect(ref, body.iter_chunks(CHUNK_BYTES), expected, limit)

    return http_objects.wait_for(filesystem.loop, get, timeout_s=timeout_s)


def _read_http(ref: TrackRef, limit: int, timeout_s: float, allowed: AllowedUris | None) -> bytes:
    async def take(response: aiohttp.ClientResponse) -> tuple[bytes, str]:
        if response.status not in http_objects.WHOLE:
            raise _failed(ref, http_failure(response.status, response.reason or ""))
        etag = http_objects.etag(response.headers)
        if ref.etag and etag and etag != ref.etag:
            raise _changed(ref)
        coding = http_objects.content_encoding(response.headers)
        expected = response.content_length
        whole = dataclasses.replace(ref, size_bytes=None) if content_coding.codings(coding) else ref
        return await _collect(whole, response.content.iter_chunked(CHUNK_BYTES), expected, limit), coding

    data, coding = http_objects.get(ref.uri, take, timeout_s=timeout_s, allowed=allowed)
    return content_coding.unpacked(data, coding, limit + 1)


async def _collect(ref: TrackRef, chunks: object, expected: int | None, limit: int) -> bytes:
    """Return what ``chunks`` give, as many bytes as the store announced."""
    _check_size(ref, expected, limit)
    if expected is not None and ref.size_bytes is not None and expected != ref.size_bytes:
        raise _changed(ref)
    buffer = io.BytesIO()  # hands its bytes out without a copy
    async for chunk in chunks:  # type: ignore[attr-defined]
        _append(ref, buffer, chunk, limit)
    if expected is not None and buffer.tell() != expected:
        raise _Retry(Failure("unreachable", f"got {buffer.tell():,} of {counted(expected, 'byte')}", is_transient=True))
    return buffer.getvalue()


def _read_other(ref: TrackRef, limit: int, deadline: float) -> bytes:
    filesystem, path = filesystems.filesystem(ref.uri)
    with filesystem.open(path, "rb", block_size=16 * CHUNK_BYTES) as file:
        buffer = io.BytesIO()
        for chunk in _chunks(file):
            _append(ref, buffer, chunk, limit)
            if time.monotonic() >= deadline:
                raise TimeoutError
    return buffer.getvalue()


def _chunks(file: io.BufferedIOBase) -> Iterator[bytes]:
    while chunk := file.read(16 * CHUNK_BYTES):
        yield chunk
