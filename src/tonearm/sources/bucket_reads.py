"""Reading objects of stores and of the web: once, whole, in the version that was listed."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from tonearm.sources.source import CHUNK_BYTES, ReadLimits, Retry, append, changed, check_size, failed
from tonearm.sources.track_ref import TrackRef
from tonearm.storage import content_coding, filesystems, http_objects
from tonearm.storage.instances import s3_filesystem
from tonearm.storage.store_errors import Failure, http_failure
from tonearm.storage.uris import split_bucket
from tonearm.wording import counted

if TYPE_CHECKING:
    import aiohttp


def read_s3(ref: TrackRef, limits: ReadLimits) -> bytes:
    """Return an object of S3, on the condition of the listed ETag."""
    # The retries are ours, so that they are counted once.
    filesystem = s3_filesystem(num_attempts=1, read_timeout_s=limits.stall_s)
    bucket, key = split_bucket(ref.uri)
    condition = {"IfMatch": f'"{ref.etag}"'} if ref.etag else {}

    async def get() -> bytes:
        client = await filesystem.set_session()
        response = await client.get_object(Bucket=bucket, Key=key, **condition)
        async with response["Body"] as body:
            expected = response.get("ContentLength")
            # Not every server heeds a condition (see create_bytes), so the version that came is compared too.
            if ref.etag and response.get("ETag", "").strip('"') != ref.etag:
                raise changed(ref)
            return await _collect(ref, body.iter_chunks(CHUNK_BYTES), expected, limits.max_bytes)

    return http_objects.wait_for(filesystem.loop, get, timeout_s=limits.left_s)


class _Body(NamedTuple):
    """What a server sent, and the ``Content-Encoding`` that is to be undone."""

    data: bytes
    coding: str


def read_http(ref: TrackRef, limits: ReadLimits) -> bytes:
    """Return an object of the web, its coding undone."""

    async def take(response: aiohttp.ClientResponse) -> _Body:
        if response.status not in http_objects.WHOLE:
            raise failed(ref, http_failure(response.status, response.reason or ""))
        etag = http_objects.etag(response.headers)
        if ref.etag and etag and etag != ref.etag:
            raise changed(ref)
        coding = http_objects.content_encoding(response.headers)
        expected = response.content_length
        # The announced length of a packed answer is that of its packed bytes, not of the object.
        whole = dataclasses.replace(ref, size_bytes=None) if content_coding.codings(coding) else ref
        data = await _collect(whole, response.content.iter_chunked(CHUNK_BYTES), expected, limits.max_bytes)
        return _Body(data, coding)

    body = http_objects.get(ref.uri, take, timeout_s=limits.left_s, allowed=limits.allowed)
    return content_coding.unpacked(body.data, body.coding, limits.max_bytes + 1)


async def _collect(ref: TrackRef, chunks: object, expected: int | None, limit: int) -> bytes:
    """Return what ``chunks`` give, as many bytes as the store announced."""
    check_size(ref, expected, limit)
    # Before the body: a changed object need not be downloaded to be refused.
    if expected is not None and ref.size_bytes is not None and expected != ref.size_bytes:
        raise changed(ref)
    buffer = io.BytesIO()  # hands its bytes out without a copy
    async for chunk in chunks:  # type: ignore[attr-defined]
        append(ref, buffer, chunk, limit)
    if expected is not None and buffer.tell() != expected:
        raise Retry(Failure("unreachable", f"got {buffer.tell():,} of {counted(expected, 'byte')}", is_transient=True))
    return buffer.getvalue()


def read_other(ref: TrackRef, limits: ReadLimits) -> bytes:
    """Return an object of any other store that fsspec knows."""
    place = filesystems.locate(ref.uri)
    with place.store.open(place.path, "rb", block_size=16 * CHUNK_BYTES) as file:
        buffer = io.BytesIO()
        for chunk in _chunks(file):
            append(ref, buffer, chunk, limits.max_bytes)
            if time.monotonic() >= limits.deadline:
                raise TimeoutError
    return buffer.getvalue()


def _chunks(file: io.BufferedIOBase) -> Iterator[bytes]:
    while chunk := file.read(16 * CHUNK_BYTES):
        yield chunk
