from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from starlette.requests import Request

from tonearm.errors import RequestError
from tonearm.settings import ServeSettings
from tonearm.web.bodies import BodyReader


def request(parts: Sequence[bytes], *, ends: bool = True) -> Request:
    """Return a request whose body comes in these parts, and then ends, breaks off or pauses."""
    todo = list(parts)

    async def receive() -> dict[str, object]:
        if todo:
            return {"type": "http.request", "body": todo.pop(0), "more_body": bool(todo) or not ends}
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


def read(reader: BodyReader, *requests: Request) -> list[bytes]:
    async def run() -> list[bytes]:
        bodies = []
        for each in requests:
            with reader.budget() as held:
                bodies.append(await reader.read(each, held))
        return bodies

    return asyncio.run(run())


def test_bodies_share_a_budget_that_is_given_back() -> None:
    reader = BodyReader(ServeSettings(max_buffered_bytes=1000))

    async def two_at_once() -> None:
        with reader.budget() as first, reader.budget() as second:
            await reader.read(request([b"x" * 600]), first)
            await reader.read(request([b"y" * 300, b"y" * 300]), second)

    with pytest.raises(RequestError, match="already take 900 of 1,000 bytes") as caught:
        asyncio.run(two_at_once())
    assert caught.value.http_status == 503
    assert reader.buffered_bytes == 0
    assert read(reader, request([b"x" * 600]), request([b"y" * 600])) == [b"x" * 600, b"y" * 600]


def test_a_body_that_breaks_off() -> None:
    reader = BodyReader(ServeSettings())
    with pytest.raises(RequestError, match="broke off after 3 bytes"):
        read(reader, request([b"abc"], ends=False))
    assert reader.buffered_bytes == 0
