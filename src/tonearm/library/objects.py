"""Reading one object whole: bounded in bytes and time, retried while that can help, and only the listed version."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any

import tenacity

from tonearm.errors import FetchError, SourceError
from tonearm.library import datasets_source, stores
from tonearm.library.sources import TrackRef, local_path, local_ref

if TYPE_CHECKING:
    from tonearm.settings import FetchSettings

CHUNK_BYTES = 2**20
# Answers that say the same however often one asks.
FINAL = {"not_found", "access_denied", "too_large", "changed", "fetch_timeout"}
S3_CODES = {
    "NoSuchKey": "not_found",
    "NoSuchBucket": "not_found",
    "404": "not_found",
    "AccessDenied": "access_denied",
    "InvalidAccessKeyId": "access_denied",
    "SignatureDoesNotMatch": "access_denied",
    "403": "access_denied",
    "PreconditionFailed": "changed",
    "412": "changed",
}


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, FetchError) and error.code not in FINAL


class ObjectReader:
    """Reads tracks' bytes from wherever their URIs point; safe to share between threads, cheap to make."""

    def __init__(self, settings: FetchSettings) -> None:
        self.settings = settings

    def read(self, ref: TrackRef) -> bytes:
        """Return the object's bytes.

        One request an object on S3, with the listed ETag as its condition.

        Raises:
            FetchError: not_found, access_denied, too_large, changed, fetch_timeout, or fetch_failed after the retries.
        """
        limit = self.settings.max_bytes
        if ref.size_bytes is not None and ref.size_bytes > limit:
            raise _too_large(ref, ref.size_bytes, limit)
        deadline = time.monotonic() + self.settings.timeout_s
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.settings.num_attempts) | tenacity.stop_after_delay(self.settings.timeout_s),
            wait=tenacity.wait_exponential_jitter(initial=self.settings.backoff_s, max=30, jitter=self.settings.backoff_s),
            retry=tenacity.retry_if_exception(_is_transient),
            reraise=True,
        )
        data: bytes = retrying(self._read_once, ref, deadline)
        return data

    def _read_once(self, ref: TrackRef, deadline: float) -> bytes:
        kind = stores.scheme(ref.uri)
        if datasets_source.is_row(ref.uri):
            data = datasets_source.read_row(ref.uri)
        elif kind == "file":
            data = _read_local(ref, self.settings.max_bytes)
        elif kind in ("http", "https"):
            data = _read_http(ref, self.settings.max_bytes, deadline)
        elif kind in ("s3", "s3a"):
            data = _read_s3(ref, self.settings.max_bytes, deadline)
        else:
            data = _read_other(ref, self.settings.max_bytes)
        if ref.size_bytes is not None and len(data) < ref.size_bytes:
            raise FetchError(f"{ref.uri}: got {len(data):,} of {ref.size_bytes:,} bytes", code="fetch_failed")
        return data


def _too_large(ref: TrackRef, num_bytes: int, limit: int) -> FetchError:
    return FetchError(f"{ref.uri} has {num_bytes:,} bytes or more, over fetch.max_bytes = {limit:,}", code="too_large")


def _timeout(ref: TrackRef) -> FetchError:
    return FetchError(f"{ref.uri} took longer than fetch.timeout_s", code="fetch_timeout")


def _changed(ref: TrackRef) -> FetchError:
    return FetchError(f"{ref.uri} is no longer the version that was listed; run again to list it anew", code="changed")


def _read_local(ref: TrackRef, limit: int) -> bytes:
    path = local_path(ref.uri) if ref.uri.startswith("file://") else ref.uri
    try:
        if ref.size_bytes is not None:
            now = local_ref(path)
            if (now.size_bytes, now.modified) != (ref.size_bytes, ref.modified):
                raise _changed(ref)
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise FetchError(f"no file {ref.uri}", code="not_found") from None
    except PermissionError:
        raise FetchError(f"{ref.uri} may not be read", code="access_denied") from None
    except OSError as error:
        code = "not_found" if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EISDIR) else "fetch_failed"
        raise FetchError(f"{ref.uri} cannot be read ({os.strerror(error.errno or 0)})", code=code) from None
    if len(data) > limit:
        raise _too_large(ref, len(data), limit)
    return data


def _read_s3(ref: TrackRef, limit: int, deadline: float) -> bytes:
    from botocore.exceptions import ClientError
    from fsspec.asyn import sync

    filesystem, _ = stores.filesystem(ref.uri)
    bucket, _, key = ref.uri.split("://", 1)[1].partition("/")
    condition = {"IfMatch": f'"{ref.etag}"'} if ref.etag else {}

    async def get() -> bytes:
        client = await filesystem.set_session()
        response = await client.get_object(Bucket=bucket, Key=key, **condition)
        async with response["Body"] as body:
            expected = int(response.get("ContentLength") or 0)
            if expected > limit:
                raise _too_large(ref, expected, limit)
            parts, num_bytes = [], 0
            while part := await body.read(CHUNK_BYTES):
                parts.append(part)
                num_bytes += len(part)
                if num_bytes > limit:
                    raise _too_large(ref, num_bytes, limit)
        if num_bytes != expected:
            raise FetchError(f"{ref.uri}: got {num_bytes:,} of {expected:,} bytes", code="fetch_failed")
        return b"".join(parts)

    left = deadline - time.monotonic()
    if left <= 0:
        raise _timeout(ref)
    try:
        data: bytes = sync(filesystem.loop, get, timeout=left)
    except FetchError:
        raise
    except ClientError as error:
        answer = error.response.get("Error", {})
        code = S3_CODES.get(str(answer.get("Code")), "fetch_failed")
        if code == "changed":
            raise _changed(ref) from None
        raise FetchError(f"{ref.uri}: the store answers {answer.get('Code')} ({stores.reason(error)})", code=code) from None
    except TimeoutError:
        raise _timeout(ref) from None
    except Exception as error:  # noqa: BLE001  botocore and aiohttp share no base class
        raise _unknown(ref, error) from None
    return data


def _read_http(ref: TrackRef, limit: int, deadline: float) -> bytes:
    import httpx

    left = deadline - time.monotonic()
    if left <= 0:
        raise _timeout(ref)
    parts, num_bytes = [], 0
    try:
        with httpx.stream("GET", ref.uri, follow_redirects=True, timeout=min(left, stores.READ_TIMEOUT_S)) as response:
            if response.is_error:
                codes = {404: "not_found", 410: "not_found", 401: "access_denied", 403: "access_denied"}
                code = codes.get(response.status_code, "fetch_failed")
                raise FetchError(f"{ref.uri} answers {response.status_code} {response.reason_phrase}", code=code)
            etag = (response.headers.get("etag") or "").strip('"')
            if ref.etag and etag and etag != ref.etag:
                raise _changed(ref)
            for part in response.iter_bytes(CHUNK_BYTES):
                parts.append(part)
                num_bytes += len(part)
                if num_bytes > limit:
                    raise _too_large(ref, num_bytes, limit)
                if time.monotonic() > deadline:
                    raise _timeout(ref)
    except httpx.HTTPError as error:
        raise _unknown(ref, error) from None
    return b"".join(parts)


def _read_other(ref: TrackRef, limit: int) -> bytes:
    try:
        filesystem, path = stores.filesystem(ref.uri)
        with filesystem.open(path, "rb") as file:
            data: bytes = file.read(limit + 1)
    except FileNotFoundError:
        raise FetchError(f"no object {ref.uri}", code="not_found") from None
    except PermissionError:
        raise FetchError(f"{ref.uri} may not be read", code="access_denied") from None
    except SourceError as error:
        raise FetchError(error.message, code="access_denied") from None
    except Exception as error:  # noqa: BLE001  each store has its own errors
        raise _unknown(ref, error) from None
    if len(data) > limit:
        raise _too_large(ref, len(data), limit)
    return data


def _unknown(ref: TrackRef, error: BaseException) -> FetchError:
    name: Any = type(error).__name__
    if name == "NoCredentialsError":
        return FetchError(f"no credentials to read {ref.uri}", code="access_denied")
    return FetchError(f"{ref.uri} cannot be read ({name}: {stores.reason(error)})", code="fetch_failed")
