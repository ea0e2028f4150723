"""Listing object stores page by page, without holding a whole listing."""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tonearm.errors import SourceError
from tonearm.library import stores

if TYPE_CHECKING:
    from tonearm.library.sources import TrackRef

Entry = tuple[str, int | None, str | None, datetime.datetime | None]
Lister = Callable[[str], Iterator[Entry]]
PAGE = 1000


def s3_objects(prefix: str) -> Iterator[Entry]:
    """Yield ``(uri, size, etag, modified)`` of every object that starts with ``prefix``, in the store's order.

    Raises:
        SourceError: the bucket cannot be listed.
    """
    from fsspec.asyn import sync

    filesystem, path = stores.filesystem(prefix)
    if prefix.endswith("/") and not path.endswith("/"):
        path += "/"
    bucket, _, key = path.partition("/")
    if not bucket:
        raise SourceError(f"got {prefix}, expected a bucket: s3://BUCKET/PREFIX")
    pages = filesystem._iterdir(bucket, delimiter="", prefix=key)

    async def page() -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        async for entry in pages:
            entries.append(entry)
            if len(entries) >= PAGE:
                break
        return entries

    while True:
        try:
            entries = sync(filesystem.loop, page)
        except Exception as error:  # noqa: BLE001  botocore, aiohttp and s3fs share no base class
            raise explain(f"s3://{bucket}", error) from None
        for entry in entries:
            name = entry["Key"].removeprefix(f"{bucket}/")
            if not name.endswith("/"):
                etag = (entry.get("ETag") or "").strip('"') or None
                yield f"s3://{bucket}/{name}", int(entry["Size"]), etag, entry.get("LastModified")
        if len(entries) < PAGE:
            return


def fsspec_objects(prefix: str) -> Iterator[Entry]:
    """Yield the objects below ``prefix`` of any other fsspec store, folder by folder.

    Raises:
        SourceError: the store cannot be listed.
    """
    filesystem, path = stores.filesystem(prefix)
    kind = stores.scheme(prefix)
    try:
        for _, _, files in filesystem.walk(path, detail=True):
            for _, info in sorted(files.items()):
                modified = info.get("mtime") or info.get("updated") or info.get("last_modified")
                if isinstance(modified, str):
                    modified = datetime.datetime.fromisoformat(modified)
                if not isinstance(modified, datetime.datetime):
                    modified = None
                yield f"{kind}://{info['name'].lstrip('/')}", info.get("size"), info.get("etag") or info.get("md5Hash"), modified
    except Exception as error:  # noqa: BLE001  each store has its own errors
        raise explain(prefix, error) from None


def head(url: str) -> TrackRef:
    """Return the ref of one ``https://`` object by a HEAD request.

    Raises:
        SourceError: the server refuses or cannot be reached.
    """
    import httpx

    from tonearm.library.sources import make_ref

    try:
        response = httpx.head(url, follow_redirects=True, timeout=stores.CONNECT_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise SourceError(f"{url} cannot be reached ({stores.reason(error)}); check the address") from None
    if response.status_code in (403, 405, 501):
        return make_ref(url)  # many servers answer GET only
    if response.is_error:
        raise SourceError(f"{url} answers {response.status_code} {response.reason_phrase}, expected an audio file")
    length, date = response.headers.get("content-length"), response.headers.get("last-modified")
    modified = email.utils.parsedate_to_datetime(date) if date else None
    return make_ref(url, int(length) if length else None, (response.headers.get("etag") or "").strip('"') or None, modified)


def explain(place: str, error: BaseException) -> SourceError:
    """Return why ``place`` cannot be read, as one line with what to do."""
    text, kind = f"{error} {error.__cause__ or ''}", type(error).__name__
    if "NoSuchBucket" in text or "bucket does not exist" in text.lower():
        return SourceError(f"no bucket {place}; check its name and the region or AWS_ENDPOINT_URL")
    if "NoCredentials" in kind or "Unable to locate credentials" in text:
        return SourceError(f"no credentials for {place}; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if isinstance(error, PermissionError) or any(word in text for word in ("AccessDenied", "Forbidden", "SignatureDoesNotMatch")):
        return SourceError(f"{place} may not be listed ({stores.reason(error)}); check the keys and the bucket's policy")
    if "onnect" in kind or "onnect" in text or "timeout" in text.lower():
        return SourceError(f"{place} cannot be reached ({stores.reason(error)}); check the network and AWS_ENDPOINT_URL")
    if isinstance(error, FileNotFoundError):
        return SourceError(f"no bucket or folder {place} ({stores.reason(error)})")
    return SourceError(f"{place} cannot be listed ({kind}: {stores.reason(error)})")
