"""Single objects over HTTP, through the session of fsspec's own HTTP file system (aiohttp)."""

from __future__ import annotations

import asyncio
import os
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from tonearm.errors import FetchError
from tonearm.library.allowed_uris import AllowedUris, public_resolver

if TYPE_CHECKING:
    import aiohttp
    import yarl

T = TypeVar("T")
# Reserved characters and escapes stay as they are, so a signed address stays signed; the rest is quoted.
KEPT = "%/:=&?~+!$,;'@()*[]"
CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S = 5, 60
GRACE_S = 5.0
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 5


@cache
def _filesystem(pid: int) -> Any:
    import fsspec

    del pid  # a session does not survive a fork
    # identity: a length that is compared must be that of the object, not of its compressed copy.
    client = {"trust_env": True, "headers": {"Accept-Encoding": "identity", "User-Agent": "tonearm"}}
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
        return future.result(timeout_s + GRACE_S)
    except FutureTimeoutError:
        raise TimeoutError from None
    finally:
        future.cancel()


def request(
    method: str,
    url: str,
    take: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    *,
    timeout_s: float,
    allowed: AllowedUris | None = None,
    **headers: str,
) -> T:
    """Send one request, redirects followed, and return what ``take`` makes of the answer, whatever its status.

    Args:
        allowed: redirects lead only to what it covers or to public addresses; None for anywhere.

    Raises:
        TimeoutError: it took longer than ``timeout_s``.
        aiohttp.ClientError: no answer, or one that breaks off.
        FetchError: a redirect that is not followed.
    """
    import aiohttp
    import yarl

    filesystem = _filesystem(os.getpid())
    address = yarl.URL(urllib.parse.quote(urllib.parse.urldefrag(url).url, safe=KEPT), encoded=True)
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S)
    options: dict[str, Any] = {"timeout": limits, "headers": headers}

    async def send() -> T:
        session = await filesystem.set_session()
        if allowed is None:
            async with session.request(method, address, allow_redirects=True, **options) as response:
                return await take(response)
        return await _follow(session, method, address, take, allowed, options)

    return wait_for(filesystem.loop, send, timeout_s=timeout_s)


async def _follow(
    session: aiohttp.ClientSession,
    method: str,
    address: yarl.URL,
    take: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    allowed: AllowedUris,
    options: dict[str, Any],
) -> T:
    import aiohttp

    # A session of its own: it takes no proxy from the environment, which would resolve names in our place.
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=public_resolver()), headers=session.headers
    ) as public:
        trusted = session
        for _ in range(MAX_REDIRECTS + 1):
            async with trusted.request(method, address, allow_redirects=False, **options) as response:
                location = response.headers.get("Location")
                if response.status not in REDIRECTS or not location:
                    return await take(response)
                address = response.url.join(address.__class__(location, encoded=True))
            trusted = session if allowed.check_redirect(str(address)) else public
    raise FetchError(f"redirected more than {MAX_REDIRECTS} times", code="fetch_failed")


def request_head(url: str, *, timeout_s: float) -> tuple[int, Mapping[str, str]]:
    """Return the status and the headers that ``url`` answers to HEAD.

    Raises:
        TimeoutError: it took longer than ``timeout_s``.
        aiohttp.ClientError: no answer.
    """

    async def take(response: aiohttp.ClientResponse) -> tuple[int, Mapping[str, str]]:
        return response.status, response.headers

    return request("HEAD", url, take, timeout_s=timeout_s)
