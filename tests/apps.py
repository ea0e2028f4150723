"""The app itself, asked in this process, over an engine that hears nothing and notes what it is given."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, cast

import httpx
import uvicorn

from tests.commands import wait_for
from tonearm.errors import DecodeError
from tonearm.heads import PUBLISHED
from tonearm.models.pooling import Scored
from tonearm.settings import ServeSettings
from tonearm.tagging import HeadPlan, TrackResult
from tonearm.web.app import build_app
from tonearm.web.messages import View
from tonearm.web.requests.admission import Gate

LOCAL = "http://localhost:8000"


class NotingEngine:
    """An ``Engine`` that hears nothing: each call is noted with its arguments."""

    def __init__(self) -> None:
        self.plans = cast(
            "Mapping[str, HeadPlan]", {name: SimpleNamespace(head=head) for name, head in PUBLISHED.items()}
        )
        self.calls: list[tuple[Any, ...]] = []

    async def tag(self, data: bytes, max_windows: int | None) -> TrackResult:
        self.calls.append((data, max_windows))
        raise DecodeError("not audio", code="not_audio")

    async def runs_on(self) -> dict[str, dict[str, str]]:
        return {}

    async def tag_uri(self, uri: str, max_windows: int | None) -> TrackResult:
        self.calls.append((uri, max_windows))
        raise DecodeError("not audio", code="not_audio")

    async def classify(self, head: str, data: bytes, function: str, max_windows: int | None) -> tuple[Scored, ...]:
        self.calls.append((head, data, function, max_windows))
        return tuple((f"label {number}", 1 / number) for number in range(1, 10))

    async def view(self, data: bytes) -> View:
        if data == b"bug":
            raise ZeroDivisionError
        if data == b"never":
            await asyncio.Event().wait()
        self.calls.append((data,))
        facts: dict[str, Any] = {"codec": "flac", "sample_rate": 8000, "channels": 1, "title": None, "artist": None}
        return View(duration_s=1.0, peaks=[], spectrogram="", mel="", max_hz=4000.0, **facts)

    async def check(self) -> dict[str, str]:
        return dict.fromkeys(self.plans, "ok")


class App:
    """One app, and what has reached its engine."""

    def __init__(self, **settings: Any) -> None:
        self.engine = NotingEngine()
        values = ServeSettings(access_log="/dev/null", **settings)
        self.gate = Gate(values)
        self.asgi = build_app(self.engine, values, self.gate)

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | Sequence[tuple[bytes, bytes]] = (),
        client: str = "127.0.0.1",
        **body: Any,
    ) -> httpx.Response:
        """Return the answer to one request of an address."""

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.asgi, client=(client, 40_000))
            async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as asking:
                return await asking.request(method, path, headers=headers or None, **body)

        return asyncio.run(run())


@contextlib.contextmanager
def listening(app: App, parser: Literal["auto", "h11", "httptools"] = "auto") -> Iterator[int]:
    """Serve an app on a port of this machine while the block runs; yield the port."""
    config = uvicorn.Config(app.asgi, http=parser, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        wait_for(lambda: server.started, what="the server")
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Return status and code of an answer in the one form that errors have."""
    body = response.json()
    assert set(body) == {"error", "code", "hint", "request_id"}
    assert body["error"] and body["hint"] and body["request_id"] == response.headers["x-request-id"]
    return response.status_code, body["code"]
