"""Swift's cache in its one proxy's own memory, where it would ask memcached.

Without a cache the proxy asks the account and the bucket about themselves before each request: three for one. Runs in
Swift's own environment, which knows nothing of tonearm.
"""

from __future__ import annotations

import json
import time as clock
from collections.abc import Callable, Iterable
from typing import Any


class Memory:
    """What Swift uses of ``swift.common.memcached.MemcacheRing``."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, float]] = {}

    def set(self, key: str, value: Any, serialize: bool = True, time: float = 0, **_: Any) -> None:
        """Keep a value, for so many seconds or for ever."""
        self._kept[key] = (json.dumps(value), clock.monotonic() + time if time else float("inf"))

    def get(self, key: str, **_: Any) -> Any:
        """Return a value, or None."""
        text, until = self._kept.get(key, ("null", 0.0))
        return json.loads(text) if clock.monotonic() < until else None

    def delete(self, key: str, **_: Any) -> None:
        """Forget a value."""
        self._kept.pop(key, None)

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Add to a number, which never is below 0."""
        number = max(0, int(self.get(key) or 0) + delta)
        self.set(key, number, time=time)
        return number

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Take from a number."""
        return self.incr(key, -delta, time)

    def set_multi(self, mapping: dict[str, Any], _: str, serialize: bool = True, time: float = 0, **__: Any) -> None:
        """Keep several values."""
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: Iterable[str], _: str) -> list[Any]:
        """Return several values."""
        return [self.get(key) for key in keys]


Application = Callable[[dict[str, Any], Any], Any]


def filter_factory(_: Any, **__: Any) -> Callable[[Application], Application]:
    """Return Paste's filter that gives requests this cache."""
    memory = Memory()

    def filtered(application: Application) -> Application:
        def answer(environment: dict[str, Any], start_response: Any) -> Any:
            environment["swift.cache"] = memory
            return application(environment, start_response)

        return answer

    return filtered
