"""The listener: uvicorn, with bounds on everything that a client can make it hold.

uvicorn speaks HTTP and holds back readers and writers. What is added here: heads are bounded in size, in number of
fields and in time, connections are bounded in number, an answer does not wait without end for a client that reads
nothing, and work ends when its client leaves.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import http
import logging
import resource
import socket
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import h11
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from tonearm.errors import RequestError, UsageError
from tonearm.settings import ServeSettings
from tonearm.web.daemon_threads import in_daemon_thread
from tonearm.web.messages import ErrorBody
from tonearm.web.requests.request_target import in_origin_form
from tonearm.web.telemetry import metrics

T = TypeVar("T")

logger = logging.getLogger("tonearm")
BACKLOG = 2048
# What a client may still send of a body that nobody reads, before its connection is closed under it.
LINGER_S = 5.0
# Descriptors that are not connections: models, children, logs.
OTHER_FILES = 200
# Of what a client sends before it has the answer to what it sent last.
READ_AHEAD_BYTES = 2**18
RETRY_AFTER_S = 5
# What a client that has ended its side is sent before its answer: one that has gone altogether refuses it, and the
# system notes that. Clients of HTTP/1.1 pass over answers of this class (RFC 9110, 15.2).
PROBE = b"HTTP/1.1 102 Processing\r\n\r\n"
PROBE_S = 0.1


class _Connection(h11.Connection):
    """h11's, with bounds that hold however a head is cut into packets, and a memory of why one was refused."""

    def __init__(self, max_bytes: int, max_fields: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=max_bytes)
        self.max_bytes, self.max_fields = max_bytes, max_fields
        self.refused: tuple[str, str] | None = None

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        # Some clients end a body with an empty line, which is no part of the next request.
        while self.their_state is h11.IDLE and self.trailing_data[0].startswith(b"\r\n"):
            self._receive_buffer.maybe_extract_at_most(2)
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                # h11 bounds only what it has not parsed yet: a whole head that comes in one packet passes its limit.
                self._check(event)
                event = in_origin_form(event)
        except h11.RemoteProtocolError as error:
            if self.refused is None and error.error_status_hint == 431:
                self.refused = "head_too_large", f"got a head of more than {self.max_bytes:,} bytes"
            elif self.refused is None:
                self.refused = "malformed", f"got what is no request of HTTP/1.1 ({str(error)[:200]})"
            raise
        return event

    def _check(self, head: h11.Request) -> None:
        fields = head.headers.raw_items()
        num_bytes = len(head.method) + len(head.target) + sum(len(name) + len(value) + 4 for name, value in fields)
        if num_bytes > self.max_bytes:
            self.refused = "head_too_large", f"got a head of {num_bytes:,} bytes, expected at most {self.max_bytes:,}"
        elif len(fields) > self.max_fields:
            self.refused = "head_too_large", f"got {len(fields):,} header fields, expected at most {self.max_fields:,}"
        else:
            return
        raise h11.RemoteProtocolError(self.refused[1], error_status_hint=431)


class BoundedProtocol(H11Protocol):
    """One connection."""

    def __init__(self, *arguments: Any, settings: ServeSettings, max_connections: int, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.settings = settings
        self.max_connections = max_connections
        self.conn: _Connection = _Connection(settings.max_head_bytes, settings.max_head_fields)
        self.began = time.monotonic()
        self.timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def is_idle(self) -> bool:
        """Whether it has asked for nothing that is not answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does that only for sockets that were made with the protocol's number. Without it the body of an answer
        # waits for the client to acknowledge the head: 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.max_connections:
            idle = [other for other in self.connections if other.is_idle and other is not self]  # type: ignore[union-attr]
            if not idle:
                self._refuse("busy", f"{len(self.connections):,} connections are open")
                return
            oldest = min(idle, key=lambda other: other.began)  # type: ignore[union-attr]
            self.connections.discard(oldest)
            # Not close(), which first sends what is buffered to a client that may never read it.
            oldest.transport.abort()  # type: ignore[union-attr]
        self._start("head", self.settings.head_timeout_s, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self.timers):
            self._stop(name)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._after_event()
        if not self.is_idle and self.conn.their_state is h11.DONE and not self.transport.is_closing():
            # The next request came before this one's answer. It waits, but only by reading on is a client seen to go.
            if len(self.conn.trailing_data[0]) > self.settings.max_head_bytes + READ_AHEAD_BYTES:
                self.transport.abort()
            elif len(self.cycle.body) <= HIGH_WATER_LIMIT:
                self.flow.resume_reading()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Go on for a client that has ended only its own side, which a close looks like too until it is written to."""
        if self.is_idle or self.cycle.more_body or self.cycle.response_started:
            return False
        if self.conn.their_http_version == b"1.1":
            self.transport.write(PROBE)
        self._start("gone", PROBE_S, self._look_if_gone)
        return True

    def _look_if_gone(self) -> None:
        # A side that has gone answers the probe with a reset, which the system keeps as the socket's error.
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        else:
            self._start("gone", PROBE_S, self._look_if_gone)

    def on_response_complete(self) -> None:
        if "gone" in self.timers:  # nothing follows from who has ended its side
            self.transport.close()
        # The answer came before the body's end, and nobody reads the rest.
        if self.conn.their_state is h11.SEND_BODY:
            self._start("linger", LINGER_S, self.transport.abort)
        super().on_response_complete()
        self._after_event()

    def _after_event(self) -> None:
        """Give a head that has begun its deadline, and take it from one that has ended."""
        if self.conn.their_state is not h11.SEND_BODY:
            self._stop("linger")
        if not self.is_idle or self.conn.their_state is not h11.IDLE:
            self._stop("head")
            return
        if self.conn.trailing_data[0]:
            self._unset_keepalive_if_required()
        if self.timeout_keep_alive_task is None and "head" not in self.timers:
            self.began = time.monotonic()
            self._start("head", self.settings.head_timeout_s, self._late)

    def pause_writing(self) -> None:
        # uvicorn itself waits without a limit until the client reads.
        super().pause_writing()
        self._start("send", self.settings.send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop("send")

    def send_400_response(self, msg: str) -> None:
        self._refuse(*(self.conn.refused or ("malformed", msg)))

    def _late(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(
                "head_timeout", f"got no whole head within serve.head_timeout_s = {self.settings.head_timeout_s:g}"
            )
        else:
            self.transport.close()

    def _refuse(self, code: str, message: str) -> None:
        """Answer what never becomes a request, in the form of all errors, and close."""
        if self.transport.is_closing():
            return
        error = RequestError(message, code=code)
        request_id, status = uuid.uuid4().hex, error.http_status
        body = ErrorBody(error=message, code=code, hint=error.hint, request_id=request_id).model_dump_json().encode()
        fields: dict[str, object] = {"content-type": "application/json", "content-length": len(body)}
        fields |= {"x-request-id": request_id, "connection": "close"}
        if status == 503:
            fields["retry-after"] = RETRY_AFTER_S
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}", *(f"{name}: {fields[name]}" for name in fields)]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
        metrics().count("none", "other", status, time.monotonic() - self.began)

    def _start(self, name: str, seconds: float, end: Callable[[], None]) -> None:
        self._stop(name)
        self.timers[name] = self.loop.call_later(seconds, end)

    def _stop(self, name: str) -> None:
        if (timer := self.timers.pop(name, None)) is not None:
            timer.cancel()


def most_connections(limit: int) -> int:
    """Return how many connections may be open: ``limit``, or as many as the system lets a process open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < limit + OTHER_FILES:
        soft = limit + OTHER_FILES if hard == resource.RLIM_INFINITY else min(limit + OTHER_FILES, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(8, min(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES))
    return limit


class EndsWithClient:
    """Cancels what ``app`` does for a client that has gone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_body, is_gone, is_answered = asyncio.Event(), asyncio.Event(), False

        async def receive_here() -> Message:
            # Starlette asks again to hear of a client that leaves. ``watch`` reads that, and two must not read at once.
            if has_body.is_set():
                await is_gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.disconnect":
                is_gone.set()
                has_body.set()
            elif not message.get("more_body"):
                has_body.set()
            return message

        async def send_here(message: Message) -> None:
            nonlocal is_answered
            has_more = message["type"] == "http.response.start" or bool(message.get("more_body"))
            is_answered = is_answered or not has_more
            await send(message)
            if has_more:
                # What is sent to a client that has gone is taken at once: an app that waits for nothing else would
                # never let the loop find out.
                await asyncio.sleep(0)

        async def watch() -> None:
            await has_body.wait()
            while not is_gone.is_set():
                if (await receive())["type"] == "http.disconnect":
                    is_gone.set()
            if not is_answered:
                work.cancel()

        work = asyncio.ensure_future(self.app(scope, receive_here, send_here))
        watcher = asyncio.ensure_future(watch())
        try:
            await work
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if not is_gone.is_set():
                raise
        finally:
            watcher.cancel()


class _Server(uvicorn.Server):
    """uvicorn's, which says when it serves."""

    def __init__(self, config: uvicorn.Config, is_ready: threading.Event) -> None:
        super().__init__(config)
        self.is_ready = is_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_ready.set()


class Listener:
    """A server on a port, in a thread with an event loop of its own.

    Args:
        build: makes the app, inside that loop.
    """

    def __init__(self, build: Callable[[], ASGIApp], settings: ServeSettings) -> None:
        self.build = build
        self.settings = settings
        self.loop: asyncio.AbstractEventLoop | None = None
        self.server: uvicorn.Server | None = None
        self._socket: socket.socket | None = None
        self._is_ready = threading.Event()
        self._running: Future[None] | None = None

    def start(self) -> None:
        """Return once it serves.

        Raises:
            UsageError: the address cannot be listened on.
        """
        kind, _, _, _, address = socket.getaddrinfo(
            self.settings.host, self.settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        try:
            self._socket = socket.create_server(address[:2], family=kind, backlog=BACKLOG)
        except OSError as error:
            raise UsageError(f"{self.settings.host} port {self.settings.port} was taken meanwhile ({error})") from None
        self._running = in_daemon_thread("listener", lambda: asyncio.run(self._serve()))
        self._running.add_done_callback(lambda _: self._is_ready.set())
        self._is_ready.wait()
        if self._running.done():
            self._running.result()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Return what a coroutine gives in the listener's loop."""
        if self.loop is None or self._running is None or self._running.done():
            work.close()
            failure = None if self._running is None else self._running.exception()
            raise failure or RuntimeError("the listener has ended")
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def stop(self) -> None:
        """Close every connection and end the requests in progress."""
        if self.server is not None and self._running is not None:
            self.server.should_exit = True
            concurrent.futures.wait([self._running])

    @property
    def is_alive(self) -> bool:
        """Whether it still serves."""
        return self._running is not None and not self._running.done()

    async def _serve(self) -> None:
        settings = self.settings
        self.loop = asyncio.get_running_loop()
        most = most_connections(settings.max_connections)
        protocol = functools.partial(BoundedProtocol, settings=settings, max_connections=most)
        config = uvicorn.Config(
            EndsWithClient(self.build()),
            http=protocol,  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # Anybody can send X-Forwarded-For, and would pass as this machine, which needs no key.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]
            # ``Gate.drain`` has already waited for the requests.
            timeout_graceful_shutdown=1,
            backlog=BACKLOG,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self.server = _Server(config, self._is_ready)
        assert self._socket is not None
        await self.server.serve(sockets=[self._socket])


@contextlib.contextmanager
def listening(build: Callable[[], ASGIApp], settings: ServeSettings) -> Iterator[Listener]:
    """Serve while the block runs.

    Raises:
        UsageError: the address cannot be listened on.
    """
    listener = Listener(build, settings)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()
