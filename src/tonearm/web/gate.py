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
from tonearm.settings import ServeSettings
from tonearm.web.keys import holder

LOCAL_NAMES = ("localhost",)
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
# How fast the estimate of a request's duration follows the last ones.
SMOOTHING = 0.2
MAX_RETRY_AFTER_S = 60.0


def is_loopback(host: str | None) -> bool:
    """Return whether an address or name means this machine."""
    if host is None:
        return False
    if host in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_rate(text: str) -> limits.RateLimitItem:
    """Return a rate such as ``60/minute``.

    Raises:
        SettingsError: not a rate.
    """
    try:
        return limits.parse(text)
    except ValueError:
        raise SettingsError(f"serve.rate_limit: got {text!r}, expected a rate such as 60/minute") from None


class Gate:
    """Decides about requests before any work is done for them. One an ingress replica."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.rate = parse_rate(settings.rate_limit) if settings.rate_limit else None
        self.limiter = MovingWindowRateLimiter(MemoryStorage())
        self.num_in_hand = 0
        self.mean_s = 1.0
        self.is_stopping = False

    def identify(self, request: Request) -> str:
        """Return who asks: a key's holder, or without keys the address.

        Raises:
            RequestError: unauthorized.
        """
        if self.settings.api_keys:
            name = holder(_given_key(request), self.settings.api_keys)
            if name is None:
                raise RequestError("got no API key that is known here", code="unauthorized")
            return name
        host = request.client.host if request.client else None
        # Another machine's request may come through a proxy on this one, and a page of another site may name this
        # machine's address as its own (DNS rebinding).
        is_direct = not any(name in request.headers for name in FORWARDED)
        if not (is_loopback(host) and is_direct and is_loopback(_asked_host(request))):
            raise RequestError("without API keys only requests from this machine are served", code="unauthorized")
        return str(host)

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
                f"{self.num_in_hand} requests are in hand already (serve.max_queue)",
                code="busy",
                retry_after_s=self.mean_s * self.num_in_hand / 2,
            )

    async def drain(self, timeout_s: float) -> int:
        """Take on nothing more and wait for what is in hand; return how many requests are left."""
        self.is_stopping = True
        ends = time.monotonic() + timeout_s
        while self.num_in_hand and time.monotonic() < ends:
            await asyncio.sleep(0.05)
        return self.num_in_hand

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


def _asked_host(request: Request) -> str:
    """Return the host of the ``Host`` header, whatever a client has put there."""
    host = request.headers.get("host", "")
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _given_key(request: Request) -> str:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else request.headers.get("x-api-key", "")
