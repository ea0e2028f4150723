"""The bodies that are held at once share one bound on bytes, and give their share back."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.web.requests.bodies import request, upload, whole
from tonearm.errors import RequestError
from tonearm.settings import ServeSettings
from tonearm.web.requests.request_body import BodyReader


def test_bodies_share_a_budget_that_is_given_back() -> None:
    reader = BodyReader(ServeSettings(max_buffered_bytes=1000))

    async def two_at_once() -> None:
        with reader.budget() as first, reader.budget() as second:
            await reader.read(request([b"x" * 600]), first)
            await reader.read(request([b"y" * 300, b"y" * 300]), second)

    with pytest.raises(RequestError, match="already take 900 of 1,000 bytes") as caught:
        asyncio.run(two_at_once())
    assert caught.value.http_status == 503
    assert reader.pool.num_bytes == 0
    assert [whole(reader, request([part * 600])) for part in (b"x", b"y")] == [b"x" * 600, b"y" * 600]


def test_all_bodies_together_may_take_what_the_settings_say_and_no_byte_more() -> None:
    reader = BodyReader(ServeSettings(max_buffered_bytes=1000))
    assert upload(reader, request([b"x" * 600, b"y" * 400])) == b"x" * 600 + b"y" * 400
    with reader.budget() as first:
        asyncio.run(reader.read(request([b"x" * 600]), first))
        assert reader.pool.num_bytes == 600
        with reader.budget() as second:
            assert asyncio.run(reader.read(request([b"y" * 400]), second)) == b"y" * 400
            assert reader.pool.num_bytes == 1000
        assert reader.pool.num_bytes == 600
        with pytest.raises(RequestError) as caught, reader.budget() as third:
            asyncio.run(reader.read(request([b"y" * 401]), third))
        assert caught.value.message == "uploads in progress already take 600 of 1,000 bytes"
        assert (caught.value.code, caught.value.http_status, caught.value.retry_after_s) == ("busy", 503, 5.0)
        assert reader.pool.num_bytes == 600
    assert reader.pool.num_bytes == 0
