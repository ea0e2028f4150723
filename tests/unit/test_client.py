"""The client against a real HTTP server that answers as it is told; integration/test_serve.py has the real one."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

import tonearm
from tonearm.client import Retries
from tonearm.errors import ApiError

pytestmark = pytest.mark.processes

RESULT = {
    "duration_s": 1.0,
    "coverage": 1.0,
    "sample_rate": 8000,
    "channels": 1,
    "codec": "mp3",
    "windows": [],
    "tonearm_version": "1",
}
BUSY = {"error": "full", "code": "busy", "hint": "wait", "request_id": "r1"}


class Told(ThreadingHTTPServer):
    """Gives its answers in turn: ``(status, headers, body, bytes of the body to send)``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str], bytes, int | None]] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.times: list[float] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def tell(self, status: int, body: Any, cut: int | None = None, **headers: str) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, headers, text, cut))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Told

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.server.times.append(time.monotonic())
        status, headers, text, cut = self.server.answers.pop(0)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text[:cut])
        self.close_connection = cut is not None

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Told]:
    with Told() as told:
        thread = threading.Thread(target=told.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield told
        told.shutdown()
        thread.join()


def tag(server: Told, is_async: bool, **options: Any) -> Any:
    if not is_async:
        with tonearm.Client(server.url, **options) as client:
            return client.tag(b"audio", max_windows=3)

    async def run() -> Any:
        async with tonearm.AsyncClient(server.url, **options) as client:
            return await client.tag(b"audio", max_windows=3)

    return asyncio.run(run())


def bulk(server: Told, is_async: bool, uris: list[str]) -> list[str]:
    if not is_async:
        with tonearm.Client(server.url) as client:
            return [line.uri for line in client.bulk(uris)]

    async def run() -> list[str]:
        async with tonearm.AsyncClient(server.url) as client:
            return [line.uri async for line in client.bulk(uris)]

    return asyncio.run(run())


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@both
def test_the_client_waits_as_long_as_retry_after_says(server: Told, is_async: bool) -> None:
    server.tell(503, BUSY, Retry_After="1")
    server.tell(429, BUSY, Retry_After=email.utils.formatdate(time.time() + 1, usegmt=True))
    server.tell(200, RESULT)
    assert tag(server, is_async, api_key="k").codec == "mp3"
    assert server.times[1] - server.times[0] >= 1.0
    path, headers, body = server.requests[-1]
    assert (path, body) == ("/v1/tag?max_windows=3", b"audio")
    assert headers["Authorization"] == "Bearer k"


@both
def test_the_client_gives_up_after_its_time_limit(server: Told, is_async: bool) -> None:
    server.tell(503, BUSY, Retry_After="3600")
    with pytest.raises(ApiError, match="full; wait") as caught:
        tag(server, is_async)
    assert caught.value.retry_after_s == 3600
    for _ in range(2):
        server.tell(503, BUSY, Retry_After="0")
    with pytest.raises(ApiError):
        tag(server, is_async, retries=Retries(num_attempts=2))
    assert not server.answers


@both
def test_permanent_errors_are_not_retried(server: Told, is_async: bool) -> None:
    server.tell(415, {**BUSY, "code": "not_audio"})
    with pytest.raises(ApiError, match=r"HTTP 415, request r1") as caught:
        tag(server, is_async)
    assert (caught.value.code, caught.value.status, len(server.requests)) == ("not_audio", 415, 1)
    server.tell(502, b"<html>Bad gateway</html>")
    with pytest.raises(ApiError, match="HTTP 502 Bad Gateway from http"):
        tag(server, is_async)


@both
def test_a_bulk_answer_that_breaks_off_is_taken_up(server: Told, is_async: bool) -> None:
    lines = [json.dumps({"uri": uri, "status": "ok"}).encode() + b"\n" for uri in ("b", "a", "a", "c")]
    server.tell(503, BUSY, Retry_After="0")
    server.tell(200, b"".join(lines), cut=len(lines[0] + lines[1]) + 4)
    server.tell(200, b"".join(lines[2:3]))  # ends early, but in good order
    server.tell(200, lines[3])
    assert bulk(server, is_async, ["a", "a", "b", "c"]) == ["b", "a", "a", "c"]
    asked = [sorted(json.loads(body)["uris"]) for _, _, body in server.requests]
    assert asked == [["a", "a", "b", "c"], ["a", "a", "b", "c"], ["a", "c"], ["c"]]


@both
def test_a_bulk_answer_without_a_line_is_an_error(server: Told, is_async: bool) -> None:
    server.tell(200, b"")
    with pytest.raises(httpx.RemoteProtocolError, match="2 URIs to go"):
        bulk(server, is_async, ["a", "b"])


def test_a_server_that_is_not_there() -> None:
    with (
        contextlib.closing(tonearm.Client("http://127.0.0.1:9", retries=Retries(2, 0.1))) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.tag(b"audio")
