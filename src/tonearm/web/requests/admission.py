"""Who comes in, how often, and how many at once."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import limits
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request

from tonearm.errors import RequestError, SettingsError
from tonearm.origins import ANY_ORIGIN, canonical_origin, split_host
from tonearm.settings import ServeSettings
from tonearm.web.requests.keys import given_keys, holder, is_digest
from tonearm.wording import counted

LOCAL_NAMES = ("localhost",)
FORWARDED = (
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"),
    *("x-forwarded-server", "x-real-ip"),
)
# Of Sec-Fetch-Site: same-site is another port of this machine, or another name of the same domain.
FOREIGN_SITES = ("cross-site", "same-site")
# How fast the estimate of a request's duration follows the last ones.
SMOOTHING = 0.2
MAX_RETRY_AFTER_S = 60.0
# For the answers to those whom a server that ends does not wait for.
LAST_WORDS_S = 2.0


def is_loopback(host: str | None) -> bool:
    """Return whether an address or name means this machine."""
    if host is None:
        return False
    if host.lower().removesuffix(".") in LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return False
    # A socket of both families shows 127.0.0.1 as ::ffff:127.0.0.1.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def parse_rate(text: str) -> limits.RateLimitItem:
    """Return a rate such as ``60/minute``.

    Raises:
        SettingsError: not a rate.
    """
    try:
        # It reads several rates out of one text, and only the first would count.
        rates = limits.parse_many(text)
        if len(rates) != 1 or rates[0].amount < 1:
            raise ValueError(text)
        return rates[0]
    except ValueError:
        raise SettingsError(f"serve.rate_limit: got {text!r}, expected a rate such as 60/minute") from None


class Gate:
    """Decides about requests before any work is done for them. One an ingress replica."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.allowed_origins = frozenset(
            origin if origin == ANY_ORIGIN else str(canonical_origin(origin)) for origin in settings.allow_origins
        )
        self.rate = parse_rate(settings.rate_limit) if settings.rate_limit else None
        self.limiter = MovingWindowRateLimiter(MemoryStorage())
        self.num_in_hand = 0
        # Until the first request was measured.
        self.mean_s = 1.0
        self.is_stopping = False
        self.deadlines: set[asyncio.Timeout] = set()

    def identify(self, request: Request) -> str:
        """Return who asks: a key's holder, or without keys the address.

        Raises:
            RequestError: unauthorized.
        """
        if self.settings.api_keys:
            return self._holder(request)
        host = request.client.host if request.client else None
        # Another machine's request may come through a proxy on this one, and a page of another site may name this
        # machine's address as its own (DNS rebinding).
        is_direct = not any(name in request.headers for name in FORWARDED)
        if not (is_loopback(host) and is_direct and is_loopback(_asked_host(request))):
            raise RequestError("without API keys only requests from this machine are served", code="unauthorized")
        return str(host)

    def check_origin(self, request: Request, *, is_page: bool) -> None:
        """Refuse what a page of another site asks of a server without keys: nobody has allowed it to.

        Browsers let any page send simple requests to any address, this machine's own among them. With keys there is
        nothing to refuse, since a page that has a key was given it.

        Args:
            is_page: the route is one that a link of another site may lead to.

        Raises:
            RequestError: foreign_origin.
        """
        if self.settings.api_keys or ANY_ORIGIN in self.allowed_origins:
            return
        origins = request.headers.getlist("origin")
        for origin in origins:
            canonical = canonical_origin(origin)
            if canonical is None or canonical not in {*self.allowed_origins, _own_origin(request)}:
                raise RequestError(f"got a request of the page {origin[:100]!r}", code="foreign_origin")
        site = request.headers.get("sec-fetch-site", "").strip().lower()
        if site not in FOREIGN_SITES or any(canonical_origin(origin) in self.allowed_origins for origin in origins):
            return
        is_link = request.headers.get("sec-fetch-mode") == "navigate" and request.method in ("GET", "HEAD")
        if not (is_page and is_link and request.headers.get("sec-fetch-dest", "document") == "document"):
            raise RequestError(f"got a request of another site's page ({site})", code="foreign_origin")

    def _holder(self, request: Request) -> str:
        given = ("authorization", "x-api-key")
        headers = [request.headers.get(name, "") for name in given]
        readings = list(given_keys(*headers))
        for reading in readings:
            name = holder(reading, self.settings.api_keys)
            if name is not None:
                return name
        # Key and line are printed together when a key is made, and are easily taken for each other.
        if any(is_digest(reading) for reading in readings):
            raise RequestError(
                "got the line that lets a key in (NAME:SHA256) or its digest, expected the key itself (ta-...), which "
                "was shown once when it was made",
                code="unauthorized",
            )
        raise RequestError("got no API key that is known here", code="unauthorized")

    def meter(self, who: str) -> None:
        """Count a request of ``who``.

        Raises:
            RequestError: rate_limited.
        """
        if self.rate is None or self.limiter.hit(self.rate, who):
            return
        resets, _ = self.limiter.get_window_stats(self.rate, who)
        raise RequestError(
            f"more than {self.settings.rate_limit} requests", code="rate_limited", retry_after_s=resets - time.time()
        )

    def check_room(self) -> None:
        """Refuse what would have to wait too long.

        Raises:
            RequestError: busy or stopping.
        """
        if self.is_stopping:
            raise RequestError("this server is being stopped", code="stopping", retry_after_s=10.0)
        if self.num_in_hand >= self.settings.max_queue:
            raise RequestError(
                f"{counted(self.num_in_hand, 'request', 'is', 'are')} in progress already (serve.max_queue)",
                code="busy",
                # Half of what waits: places come free one after the other, not all at the end.
                retry_after_s=self.mean_s * self.num_in_hand / 2,
            )

    async def drain(self, timeout_s: float) -> int:
        """Take on nothing more and wait for the requests in progress; return how many are cut off after that."""
        self.is_stopping = True
        await self._ended_within(timeout_s)
        num_left = self.num_in_hand
        # Ended here, they are answered 503 with Retry-After; ended with the process, they would only be cut.
        for deadline in list(self.deadlines):
            deadline.reschedule(asyncio.get_running_loop().time())
        await self._ended_within(min(timeout_s, LAST_WORDS_S))
        return num_left

    async def _ended_within(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while self.num_in_hand and time.monotonic() < ends:
            await asyncio.sleep(0.05)

    @contextmanager
    def deadline(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Have ``limit`` end with the server, if that is earlier."""
        self.deadlines.add(limit)
        try:
            yield
        finally:
            self.deadlines.discard(limit)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take one of ``max_queue`` places while the block runs.

        Raises:
            RequestError: busy or stopping.
        """
        self.check_room()
        self.num_in_hand += 1
        started = time.monotonic()
        try:
            yield
        finally:
            # In hand together, requests share the machine: one's share is what the next in line waits for.
            share_s = (time.monotonic() - started) / self.num_in_hand
            self.mean_s += SMOOTHING * (share_s - self.mean_s)
            self.num_in_hand -= 1


def retry_after(seconds: float) -> str:
    """Return the value of a ``Retry-After`` header: whole seconds, from 1 to a minute."""
    return str(max(1, math.ceil(min(seconds, MAX_RETRY_AFTER_S))))


def _asked_host(request: Request) -> str | None:
    """Return the host that a request names, or None where it names none, several, or what is no host."""
    named = request.headers.getlist("host")
    host = split_host(named[0]) if len(named) == 1 else None
    return None if host is None else host[0]


def _own_origin(request: Request) -> str | None:
    """Return the origin of this server's page for who asks."""
    return canonical_origin(f"{request.scope.get('scheme', 'http')}://{request.headers.get('host', '')}")
