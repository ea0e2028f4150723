"""Single objects over HTTP, through the session of fsspec's own HTTP file system (aiohttp)."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import fsspec

from tonearm.errors import FetchError
from tonearm.storage import content_coding
from tonearm.storage.allowed_uris import SHOWN_CHARACTERS, AllowedUris, public_resolver
from tonearm.storage.uris import scheme, scrubbed, shown, split_url, to_bytes

if TYPE_CHECKING:
    import aiohttp
    import yarl
    from fsspec.implementations.http import HTTPFileSystem
    from multidict import MultiMapping

T = TypeVar("T")
# Reserved characters and escapes stay as they are, so a signed address stays signed; the rest is quoted.
KEPT = "%/:=&?~+!$,;'@()*[]"
CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S = 5, 60
CANCELLATION_TIMEOUT_S = 5.0
# A name as DNS takes it; underscores are used, though they should not be.
HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
# The statuses whose body is the object; 206 is a part that was not asked for, and 202 a promise.
WHOLE = (200, 203, 204)
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 10


@cache
def _filesystem(pid: int) -> HTTPFileSystem:
    del pid  # a session does not survive a fork
    # identity: a length that is compared must be that of the object, not of its compressed copy.
    headers = {"Accept-Encoding": "identity", "User-Agent": "tonearm"}
    client = {"trust_env": True, "auto_decompress": False, "headers": headers}
    return fsspec.filesystem("https", skip_instance_cache=True, client_kwargs=client)


def wait_for(loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[T]], *, timeout_s: float) -> T:
    """Return the result of ``work()``, run on another thread's ``loop`` and cancelled after ``timeout_s``.

    Raises:
        TimeoutError: it took longer.
    """

    async def bounded() -> T:
        async with asyncio.timeout(timeout_s):
            return await work()

    future = asyncio.run_coroutine_threadsafe(bounded(), loop)
    try:
        return future.result(timeout_s + CANCELLATION_TIMEOUT_S)
    except FutureTimeoutError:
        raise TimeoutError from None
    finally:
        future.cancel()


def get(
    url: str,
    take: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    *,
    timeout_s: float,
    allowed: AllowedUris | None = None,
) -> T:
    """Send a GET, follow redirects, and return what ``take`` makes of the answer, whatever its status.

    Args:
        allowed: redirects lead only to what it covers or to public addresses; None for anywhere.

    Raises:
        TimeoutError: it took longer than ``timeout_s``.
        aiohttp.ClientError: no answer, or one that breaks off.
        FetchError: what is no web address (not_found), or a redirect that is not followed.
    """
    try:
        address = _address(url)
    except ValueError as error:
        raise FetchError(f"{shown(url)} is no web address ({scrubbed(str(error))})", code="not_found") from None
    filesystem = _filesystem(os.getpid())

    async def send() -> T:
        return await _follow(await filesystem.set_session(), address, take, allowed)

    return wait_for(filesystem.loop, send, timeout_s=timeout_s)


def _address(url: str) -> yarl.URL:
    """Return the address that is asked for; its host is checked before a resolver is.

    Raises:
        ValueError: it is no web address.
    """
    import yarl

    parts = split_url(url)
    host = yarl.URL(f"{scheme(url)}://{parts.place}/")  # writes an international name as DNS has it
    if host.scheme not in ("http", "https") or not host.raw_host:
        raise ValueError("expected http:// or https:// and a host")
    if "[" in parts.place:
        ipaddress.IPv6Address(host.raw_host.partition("%")[0])
    elif not HOST.fullmatch(host.raw_host):
        raise ValueError(f"{host.raw_host[:80]} is no name of a host")
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    quoted = urllib.parse.quote(to_bytes(path or "/"), safe=KEPT)
    return yarl.URL(f"{host.scheme}://{host.raw_authority}{quoted}", encoded=True)


async def _follow(
    session: aiohttp.ClientSession,
    address: yarl.URL,
    take: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    allowed: AllowedUris | None,
) -> T:
    import aiohttp

    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S)
    async with _public(session, allowed) as public:
        trusted = session
        for _ in range(MAX_REDIRECTS + 1):
            async with trusted.get(address, allow_redirects=False, timeout=limits) as response:
                location = response.headers.get("Location")
                if response.status not in REDIRECTS or not location:
                    return await take(response)
                address = _redirected(response.url, location, allowed)
            if allowed is not None:
                trusted = session if allowed.check_redirect(str(address)) else public
    raise FetchError(f"redirected more than {MAX_REDIRECTS} times", code="fetch_failed")


def _redirected(address: yarl.URL, location: str, allowed: AllowedUris | None) -> yarl.URL:
    try:
        quoted = urllib.parse.quote(to_bytes(location), safe=KEPT + "#")
        return _address(str(address.join(address.__class__(quoted, encoded=True))))
    except ValueError as error:
        reason = f"redirected to {shown(location)[:SHOWN_CHARACTERS]}, which is no web address ({scrubbed(str(error))})"
        raise FetchError(reason, code="fetch_failed" if allowed is None else "access_denied") from None


def _public(
    session: aiohttp.ClientSession, allowed: AllowedUris | None
) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
    """Return the session for redirects to what is not allowed by name.

    It is one of its own: it takes no proxy from the environment, which would resolve names in our place.
    """
    import aiohttp

    if allowed is None:
        return nullcontext(session)
    connector = aiohttp.TCPConnector(resolver=public_resolver())
    return aiohttp.ClientSession(connector=connector, auto_decompress=False, headers=session.headers)


class ResponseStart(NamedTuple):
    """What comes before the body of an answer."""

    status: int
    headers: MultiMapping[str]


def get_headers(url: str, *, timeout_s: float) -> ResponseStart:
    """Return how a GET is answered, and read no further: what a HEAD says need not be true of a GET.

    Raises:
        TimeoutError: it took longer than ``timeout_s``.
        aiohttp.ClientError: no answer.
        FetchError: as ``get``.
    """

    async def take(response: aiohttp.ClientResponse) -> ResponseStart:
        return ResponseStart(response.status, response.headers)

    return get(url, take, timeout_s=timeout_s)


def etag(headers: Mapping[str, str]) -> str | None:
    """Return an answer's ETag as it is written down: without quotes, weak or not."""
    text = headers.get("ETag", "").removeprefix("W/").strip('"')
    return text.encode("utf-8", "backslashreplace").decode() or None


def content_encoding(headers: MultiMapping[str]) -> str:
    """Return an answer's ``Content-Encoding``, which may stand in several lines."""
    return ",".join(headers.getall("Content-Encoding", []))


def size_bytes(headers: MultiMapping[str]) -> int | None:
    """Return how long an answer says that the object is; of one that is packed nobody knows it."""
    length = headers.get("Content-Length", "")
    if content_coding.codings(content_encoding(headers)) or not re.fullmatch("[0-9]{1,18}", length):
        return None
    return int(length)
