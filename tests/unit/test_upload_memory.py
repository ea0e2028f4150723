"""An upload is in memory once, each copy of it is counted, and all of it is gone before the answer is."""

from __future__ import annotations

import asyncio
import base64
import gzip
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apps import App
from tonearm.errors import DecodeError

SIZE = 6 * 2**20
PART_BYTES = 2**16
INPUTS = base64.b64encode(bytes(SIZE))
ENDS = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n', b"\r\n--x--\r\n"
# What each form takes at its peak: base64 is there together with what it stands for.
FORMS: dict[str, tuple[dict[str, str], tuple[bytes, bytes, bytes], int]] = {
    "raw": ({}, (b"", bytes(SIZE), b""), SIZE),
    "raw, its length declared": ({"content-length": str(SIZE)}, (b"", bytes(SIZE), b""), SIZE),
    "JSON": ({"content-type": "application/json"}, (b'{"inputs": "', INPUTS, b'"}'), SIZE + len(INPUTS) + 14),
    "a form": ({"content-type": "multipart/form-data; boundary=x"}, (ENDS[0], bytes(SIZE), ENDS[1]), SIZE),
    "gzip": ({"content-encoding": "gzip"}, (b"", gzip.compress(bytes(SIZE), 1), b""), SIZE),
}


def parts_of(body: tuple[bytes, ...]) -> Iterator[bytes]:
    for piece in body:
        for start in range(0, len(piece), PART_BYTES):
            yield piece[start : start + PART_BYTES]


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def send(app: App, headers: dict[str, str], body: tuple[bytes, ...]) -> tuple[int, int, int]:
    """Return the answer's status, and the bytes in use at the peak and when the answer began."""
    parts = parts_of(body)
    seen: list[int] = []
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()

    async def receive() -> dict[str, Any]:
        part = next(parts, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    async def answer(message: Any) -> None:
        if message["type"] == "http.response.start":
            now, peak = tracemalloc.get_traced_memory()
            seen.extend((message["status"], peak - before, now - before))

    given = [(name.encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()]
    scope = {"type": "http", "method": "POST", "path": "/models/genre", "headers": given, "query_string": b""}
    asyncio.run(app.asgi({**scope, "client": ("127.0.0.1", 1), "scheme": "http"}, receive, answer))
    status, peak, at_answer = seen
    return status, peak, at_answer


@pytest.mark.parametrize("outcome", ["served", "failed", "refused"])
@pytest.mark.parametrize("form", FORMS)
def test_bytes_of_uploads_are_counted_as_long_as_they_are_in_memory(
    form: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers, body, needed = FORMS[form]
    app = App(max_buffered_bytes=needed if outcome != "refused" else needed - 1)
    sizes: list[int] = []

    async def classify(head: str, data: bytes, *_: object) -> tuple[tuple[str, float], ...]:
        assert type(data) is bytes
        sizes.append(len(data))
        if outcome == "failed":
            raise DecodeError("damaged", code="corrupt")
        return (("rock", 1.0),)

    monkeypatch.setattr(app.engine, "classify", classify)
    send(app, {}, (b"x",))  # so that what is made once is there
    status, peak, at_answer = send(app, headers, body)
    assert status == {"served": 200, "failed": 422, "refused": 503}[outcome]
    assert sizes == [1, SIZE] if outcome != "refused" else sizes == [1]
    assert peak < 1.25 * needed
    assert at_answer < 2**20
