"""What requests have in memory, counted against one bound that they share."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from tonearm.errors import RequestError


class Pool:
    """The bytes that all requests of one app hold together, ``max_bytes`` at most."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0

    @contextmanager
    def holding(self) -> Iterator[Held]:
        """Count what is taken in the block as held until it ends."""
        held = Held(self)
        try:
            yield held
        finally:
            held.give(held.num_bytes)


class Held:
    """What one request holds: its body, and each copy of it for as long as it exists."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.num_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Count more bytes as held.

        Raises:
            RequestError: busy.
        """
        pool = self.pool
        # Refused before it is held: a server that runs out of memory loses every request.
        if pool.num_bytes + num_bytes > pool.max_bytes:
            raise RequestError(
                f"uploads in progress already take {pool.num_bytes:,} of {pool.max_bytes:,} bytes",
                code="busy",
                retry_after_s=5.0,
            )
        self.num_bytes += num_bytes
        pool.num_bytes += num_bytes

    def give(self, num_bytes: int) -> None:
        """Count bytes that no longer exist as given back."""
        self.num_bytes -= num_bytes
        self.pool.num_bytes -= num_bytes


class Buffer:
    """Bytes that come in parts and are held once.

    ``io.BytesIO`` grows in place by an eighth and hands its buffer out as ``bytes`` without a copy, where joining a
    list of parts takes twice as much.

    Args:
        limit: the most bytes that it may hold.
    """

    def __init__(self, held: Held, limit: int) -> None:
        self.held = held
        self.limit = limit
        self.size = 0
        self.file = io.BytesIO()

    def write(self, part: bytes | memoryview) -> None:
        """Add a part.

        Raises:
            RequestError: body_too_large, busy.
        """
        self.size += len(part)
        if self.size > self.limit:
            raise too_large(self.size, self.limit)
        self.held.take(len(part))
        self.file.write(part)

    def value(self) -> bytes:
        """Return all of it."""
        return self.file.getvalue()


def too_large(num_bytes: int, limit: int) -> RequestError:
    """Return the refusal of a body of ``num_bytes`` and perhaps more."""
    return RequestError(
        f"got a body of {num_bytes:,} bytes or more, expected at most {limit:,} (serve.max_body_bytes)",
        code="body_too_large",
    )
