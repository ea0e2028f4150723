"""Requests with bodies that tests make up, and reading them as the routes do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from starlette.requests import Request

from tonearm.web.requests.buffers import Held
from tonearm.web.requests.request_body import BodyReader

T = TypeVar("T")


Receive = Callable[[], Awaitable[dict[str, object]]]


def request(
    parts: Sequence[bytes], *, ends: bool = True, kind: str | None = None, declared: str | None = None
) -> Request:
    """Return a request whose body comes in these parts, and then ends or breaks off."""
    todo = list(parts)

    async def receive() -> dict[str, object]:
        if todo:
            return {"type": "http.request", "body": todo.pop(0), "more_body": bool(todo) or not ends}
        return {"type": "http.disconnect"}

    return received(receive, kind=kind, declared=declared)


def received(receive: Receive, *, kind: str | None = None, declared: str | None = None) -> Request:
    given = {"content-type": kind, "content-length": declared}
    headers = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def take(reader: BodyReader, reading: Callable[[Held], Awaitable[T]]) -> T:
    """Return what ``reading`` gives, and check that what it held is given back however it ends."""

    async def run() -> T:
        with reader.budget() as held:
            return await reading(held)

    try:
        return asyncio.run(run())
    finally:
        assert reader.pool.num_bytes == 0


def whole(reader: BodyReader, request: Request, max_bytes: int | None = None) -> bytes:
    return take(reader, lambda held: reader.read(request, held=held, max_bytes=max_bytes))


def upload(reader: BodyReader, request: Request) -> bytes:
    return take(reader, lambda held: reader.read_audio(request, held)).data
