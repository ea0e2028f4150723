"""The listener: what a client can make it hold, and what becomes of the work of one that has gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from tests.apps import App
from tests.commands import wait_for
from tests.servers.swift_s3 import free_ports
from tonearm.settings import ServeSettings
from tonearm.web import listener
from tonearm.web.listener import Listener, listening, most_connections

pytestmark = pytest.mark.processes  # it listens on a port
PIECE = bytes(2**16)
HEAD = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n"


class Stub:
    """An app that answers, waits, streams or reads, and notes how that ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.num_sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].strip("/")
        try:
            await self.answer(name, receive, send)
        except asyncio.CancelledError:
            self.ended.append(f"{name} cancelled")
            raise
        self.ended.append(name)

    async def answer(self, name: str, receive: Receive, send: Send) -> None:
        if name != "unread":
            while (await receive()).get("more_body"):
                pass
        if name == "wait":
            await asyncio.Event().wait()
        if name == "slow":
            await asyncio.sleep(3 * listener.PROBE_S)
        length = [] if name == "stream" else [(b"content-length", str(len(name)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        while name == "stream":
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.num_sent += 1
        await send({"type": "http.response.body", "body": name.encode()})
        await asyncio.sleep(0.05)  # what an app does once it has answered


@contextlib.contextmanager
def served(**settings: Any) -> Iterator[tuple[Listener, Stub]]:
    app, (port,) = Stub(), free_ports(1)
    short = {"head_timeout_s": 0.6, "keep_alive_s": 0.6, "send_timeout_s": 0.6, "port": port}
    with listening(lambda: app, ServeSettings(**(short | settings))) as running:
        yield running, app


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Listener, Stub]]:
    with served() as running:
        yield running


def connect(running: Listener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.settings.port), timeout=10)


def answer(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            received += part
    return received


def until(connection: socket.socket, end: bytes) -> bytes:
    """Return what comes until it ends so."""
    received = b""
    while not received.endswith(b"\r\n\r\n" + end):
        part = connection.recv(2**16)
        assert part, received
        received += part
    return received


def refusal(said: bytes) -> tuple[int, str]:
    head, _, body = said.partition(b"\r\n\r\n")
    parsed = json.loads(body)
    assert set(parsed) == {"error", "code", "hint", "request_id"}
    assert f"x-request-id: {parsed['request_id']}".encode() in head
    assert f"content-length: {len(body)}".encode() in head
    return int(head.split()[1]), parsed["code"]


def test_requests_share_a_connection_and_are_not_cancelled(server: tuple[Listener, Stub]) -> None:
    running, app = server
    with httpx.Client() as client:
        for name in ("a", "b"):
            assert client.post(f"http://127.0.0.1:{running.settings.port}/{name}", content=PIECE * 40).text == name
    wait_for(lambda: {"a", "b"} <= set(app.ended), what="both to their end")


def test_an_answer_does_not_wait_to_be_acknowledged(server: tuple[Listener, Stub]) -> None:
    """Head and body are written apart; with Nagle's algorithm the second waits for the client's delayed ACK."""
    with httpx.Client() as client:
        taken_s = []
        for _ in range(20):
            started = time.monotonic()
            client.get(f"http://127.0.0.1:{server[0].settings.port}/a")
            taken_s.append(time.monotonic() - started)
    assert sorted(taken_s)[5] < 0.03


@pytest.mark.parametrize("size", [64, 2**18], ids=["in small pieces", "at once"])
def test_a_head_without_an_end_is_refused(server: tuple[Listener, Stub], size: int) -> None:
    with connect(server[0]) as connection:
        connection.sendall(HEAD % b"a" + b"x-a: ")
        with contextlib.suppress(OSError):  # it may close before all is sent
            for _ in range(2**18 // size):
                connection.sendall(b"a" * size)
        said = answer(connection)
    assert not said or refusal(said) == (431, "head_too_large")


def test_a_whole_head_that_is_too_large_is_refused(server: tuple[Listener, Stub]) -> None:
    with connect(server[0]) as connection:
        connection.sendall(HEAD % b"a" + b"x-a: " + b"a" * 40_000 + b"\r\n\r\n")
        assert refusal(answer(connection)) == (431, "head_too_large")


def test_too_many_fields_are_refused(server: tuple[Listener, Stub]) -> None:
    for count, expected in ((90, 200), (101, 431)):
        with connect(server[0]) as connection:
            connection.sendall(HEAD % b"a" + b"a: b\r\n" * count + b"connection: close\r\n\r\n")
            assert answer(connection).startswith(b"HTTP/1.1 %d " % expected)


def test_a_head_that_takes_its_time_is_refused(server: tuple[Listener, Stub]) -> None:
    """However steadily it comes: a deadline for the whole head, not for the next byte."""
    with connect(server[0]) as connection:
        started, said = time.monotonic(), b""
        connection.settimeout(0.05)
        while not said and time.monotonic() - started < 5:
            connection.sendall(b"G" if not said else b"")
            with contextlib.suppress(TimeoutError):
                said = connection.recv(2**16)
    assert refusal(said) == (408, "head_timeout")


def test_a_connection_that_sends_nothing_is_closed(server: tuple[Listener, Stub]) -> None:
    with connect(server[0]) as connection:
        assert answer(connection) == b""
    with connect(server[0]) as connection:  # also behind an answer
        connection.sendall(HEAD % b"a" + b"\r\n")
        assert answer(connection).endswith(b"a")


def test_the_beginning_of_a_next_head_has_its_deadline_too(server: tuple[Listener, Stub]) -> None:
    with connect(server[0]) as connection:
        connection.sendall(HEAD % b"a" + b"\r\n" + HEAD % b"b")
        said = answer(connection)
    assert said.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 408 " in said


def test_what_is_no_http_is_refused(server: tuple[Listener, Stub]) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2", b"GET / HTTP/1.1", b"GET /\r HTTP/1.1\r\nHost: a"):
        with connect(server[0]) as connection:
            connection.sendall(nonsense + b"\r\n\r\n")
            assert refusal(answer(connection)) == (400, "malformed")


@pytest.mark.parametrize("name", ["wait", "stream"])
def test_work_ends_when_its_client_leaves(name: str) -> None:
    with served() as (running, app):
        with connect(running) as connection:
            connection.sendall(HEAD % name.encode() + b"\r\n")
            if name == "stream":
                assert connection.recv(1000)
            else:
                time.sleep(0.1)
        wait_for(lambda: app.ended == [f"{name} cancelled"], timeout_s=5, what="its end")


def test_a_reader_that_does_not_read_is_waited_for_and_then_left() -> None:
    with served(send_timeout_s=1.5) as (running, app), connect(running) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(HEAD % b"stream" + b"\r\n")
        wait_for(lambda: app.num_sent > 0, timeout_s=5, what="the first piece")
        time.sleep(0.3)
        before = app.num_sent
        time.sleep(0.5)
        assert app.num_sent == before and before * len(PIECE) < 2**24
        wait_for(lambda: app.ended == ["stream cancelled"], timeout_s=5, what="its end")


def test_a_body_that_nobody_reads_does_not_keep_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LINGER_S", 0.5)
    with served() as (running, _), connect(running) as connection:
        connection.sendall(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        connection.settimeout(0.05)
        started = time.monotonic()
        with pytest.raises((ConnectionError, EOFError)):
            while time.monotonic() - started < 5:
                connection.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1000):
                        raise EOFError
                time.sleep(0.01)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_who_has_only_ended_sending_gets_an_answer(version: bytes) -> None:
    with served() as (running, app), connect(running) as connection:
        connection.sendall(b"POST /slow HTTP/%s\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % version)
        connection.shutdown(socket.SHUT_WR)
        said = answer(connection)
        assert said.startswith(b"HTTP/1.1 102 ") == (version == b"1.1")
        assert b"HTTP/1.1 200 " in said and said.endswith(b"slow")
        assert app.ended[:1] != ["slow cancelled"]


def test_half_a_request_is_dropped_when_its_sender_ends(server: tuple[Listener, Stub]) -> None:
    with connect(server[0]) as connection:
        connection.sendall(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx")
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in answer(connection)


@pytest.mark.parametrize("early", [b"\r\n", b"\r\n\r\n", HEAD % b"b", HEAD % b"b" + b"\r\n"])
def test_a_client_that_leaves_is_noticed_although_it_has_sent_more(early: bytes) -> None:
    with served() as (running, app):
        with connect(running) as connection:
            connection.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            time.sleep(0.1)
            connection.sendall(early)
            time.sleep(0.1)
        wait_for(lambda: app.ended == ["wait cancelled"], timeout_s=5, what="its end")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://proxied:80/healthz?a=1", "/healthz", b"a=1"),
        (b"HTTPS://proxied:80", "/", b""),
        (b"http://proxied:80?a=http://b/", "/", b"a=http://b/"),
    ],
)
def test_a_whole_url_is_asked_for_as_its_path(target: bytes, path: str, query: bytes) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    (port,) = free_ports(1)
    with listening(lambda: app, ServeSettings(port=port)) as running, connect(running) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n" % target)
        assert answer(connection).startswith(b"HTTP/1.1 200 ")
    assert (seen[0]["path"], seen[0]["query_string"]) == (path, query)
    assert dict(seen[0]["headers"])[b"host"] == b"proxied:80"


def test_an_empty_line_between_requests_is_ignored() -> None:
    with served() as (running, _), connect(running) as connection:
        for name in (b"a", b"b"):
            connection.sendall(b"\r\nPOST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\n" % name)
            assert until(connection, name).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.05)


def test_a_client_may_not_pipeline_without_limit() -> None:
    with served() as (running, app), connect(running) as connection:
        connection.sendall(HEAD % b"wait" + b"\r\n")
        with pytest.raises(OSError):
            for _ in range(200):
                connection.sendall(PIECE)
                time.sleep(0.005)
        wait_for(lambda: app.ended == ["wait cancelled"], timeout_s=5, what="its end")


def test_a_late_body_does_not_cut_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LINGER_S", 1.0)
    with served(keep_alive_s=15.0, head_timeout_s=15.0) as (running, _), connect(running) as connection:
        connection.sendall(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        assert until(connection, b"unread").startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"xx")
        time.sleep(1.2)  # past the time that a body has, and within that of the next head
        connection.sendall(HEAD % b"a" + b"\r\n")
        assert until(connection, b"a").startswith(b"HTTP/1.1 200 ")


def test_the_oldest_idle_connections_make_room() -> None:
    with served(max_connections=20, head_timeout_s=30.0) as (running, _), contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(running)) for _ in range(30)]
        busy = idle[-1]
        busy.sendall(HEAD % b"wait" + b"\r\n")
        assert httpx.get(f"http://127.0.0.1:{running.settings.port}/a").text == "a"
        for connection in idle[:10]:
            assert answer(connection) == b""
        idle[-2].sendall(HEAD % b"b" + b"connection: close\r\n\r\n")
        assert answer(idle[-2]).endswith(b"b")
        busy.settimeout(0.1)
        with pytest.raises(TimeoutError):
            busy.recv(1)


def test_with_every_connection_busy_the_next_is_refused() -> None:
    with served(max_connections=3) as (running, app), contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(running)).sendall(HEAD % b"wait" + b"\r\n")
        time.sleep(0.2)
        with connect(running) as connection:
            said = answer(connection)
        assert refusal(said) == (503, "busy") and b"retry-after: 5" in said
    assert app.ended == ["wait cancelled"] * 3  # when the server stops


def test_a_thousand_idle_connections_do_not_hinder_requests() -> None:
    """500 silent connections and 500 with half a head; everybody else is served as quickly as without them."""
    with served(head_timeout_s=30.0) as (running, _), contextlib.ExitStack() as stack:
        assert most_connections(1024) == 1024
        for number in range(1000):
            connection = stack.enter_context(connect(running))
            if number % 2:
                connection.sendall(HEAD % b"a")
        started = time.monotonic()
        for _ in range(20):
            assert httpx.get(f"http://127.0.0.1:{running.settings.port}/a", timeout=5).text == "a"
        assert time.monotonic() - started < 10


@contextlib.contextmanager
def asking_in_bulk(port: int, num_uris: int) -> Iterator[None]:
    """Ask for so many URIs and read nothing of the answer, until the block ends."""
    body = json.dumps({"uris": ["http://h/" + "x" * 3000] * num_uris}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = b"POST /v1/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        yield


def test_bulk_waits_for_its_reader_and_ends_with_it() -> None:
    """A client that reads nothing keeps few URIs in hand, and none once it has gone."""
    app, (port,) = App(), free_ports(1)
    with listening(lambda: app.asgi, ServeSettings(port=port)):
        with asking_in_bulk(port, 10_000):
            wait_for(lambda: app.engine.calls, timeout_s=20, what="the first URI")
            assert settled(lambda: len(app.engine.calls)) < 9000
            assert app.gate.num_in_hand == 1
        wait_for(lambda: app.gate.num_in_hand == 0, timeout_s=5, what="the end of its work")


def test_bulk_requests_that_find_no_place_are_told_so() -> None:
    """Before an answer has begun, which could only be broken off."""
    app, (port,) = App(max_queue=1), free_ports(1)
    with listening(lambda: app.asgi, ServeSettings(port=port)):
        with asking_in_bulk(port, 3000):
            wait_for(lambda: app.gate.num_in_hand == 1, timeout_s=20, what="the first")
            refused = httpx.post(f"http://127.0.0.1:{port}/v1/bulk", json={"uris": ["http://h/x"]})
            assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        wait_for(lambda: app.gate.num_in_hand == 0, timeout_s=5, what="its end")


def test_what_a_stopping_server_does_not_wait_for_is_told_so() -> None:
    app, (port,) = App(), free_ports(1)
    with listening(lambda: app.asgi, ServeSettings(port=port)) as running, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"http://127.0.0.1:{port}/v1/view", content=b"never", timeout=30)
        wait_for(lambda: app.gate.num_in_hand == 1, timeout_s=10, what="the request")
        assert running.call(app.gate.drain(0.2), 10) == 1
        answered = asked.result()
    assert (answered.status_code, answered.json()["code"]) == (503, "stopping")
    assert app.gate.num_in_hand == 0


def settled(count: Any) -> int:
    """Return what is counted once it has stopped changing."""
    before = -1
    while (now := count()) != before:
        before = now
        time.sleep(0.3)
    return int(now)
