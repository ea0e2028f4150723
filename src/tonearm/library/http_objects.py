"""Single objects over HTTP, through the session of fsspec's own HTTP file system (aiohttp)."""

from __future__ import annotations

import asyncio
import os
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
# Reserved characters and escapes stay as they are, so a signed address stays signed; the rest is quoted.
KEPT = "%/:=&?~+!$,;'@()*[]"
CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S = 5, 60
GRACE_S = 5.0


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
    method: str, url: str, take: Callable[[aiohttp.ClientResponse], Awaitable[T]], *, timeout_s: float, **headers: str
) -> T:
    """Send one request, redirects followed, and return what ``take`` makes of the answer, whatever its status.

    Raises:
        TimeoutError: it took longer than ``timeout_s``.
        aiohttp.ClientError: no answer, or one that breaks off.
    """
    import aiohttp
    import yarl

    filesystem = _filesystem(os.getpid())
    address = yarl.URL(urllib.parse.quote(urllib.parse.urldefrag(url).url, safe=KEPT), encoded=True)
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S)

    async def send() -> T:
        session = await filesystem.set_session()
        async with session.request(method, address, timeout=limits, headers=headers, allow_redirects=True) as response:
            return await take(response)

    return wait_for(filesystem.loop, send, timeout_s=timeout_s)


def request_head(url: str, *, timeout_s: float) -> tuple[int, Mapping[str, str]]:
    """Return the status and the headers that ``url`` answers to HEAD.

    Raises:
        TimeoutError: it took longer than ``timeout_s``.
        aiohttp.ClientError: no answer.
    """

    async def take(response: aiohttp.ClientResponse) -> tuple[int, Mapping[str, str]]:
        return response.status, response.headers

    return request("HEAD", url, take, timeout_s=timeout_s)
