"""A real HTTP server on loopback that answers as each path is told to, faults included, and counts its requests."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        cut: announce all of ``body``, send only so many bytes of it and close the connection.
        hang: wait until the server ends before answering.
        raw: send these bytes instead of all that, and close the connection.
        head: what HEAD is answered; None for the same as GET, without a body.
    """

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None
    hang: bool = False
    raw: bytes | None = None
    head: Answer | None = None


class FaultyServer(ThreadingHTTPServer):
    """Answers each path with its answers in turn, and with the last of them from then on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, str]] = []
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def take(self, method: str, path: str) -> Answer:
        """Return the answer for a request, and note that it came."""
        with self.lock:
            self.requests.append((method, path))
            answers = self.answers.get(path, [Answer(404)])
            return answers.pop(0) if len(answers) > 1 and method == "GET" else answers[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def do_GET(self) -> None:
        answer = self.server.take(self.command, self.path)
        if self.command == "HEAD":
            answer = answer.head or answer
        if answer.raw is not None:
            self.close_connection = True
            with contextlib.suppress(OSError):  # whoever has read enough is gone
                self.wfile.write(answer.raw)
            return
        if answer.hang:
            self.server.ended.wait()
            self.close_connection = True
            return
        self.send_response(answer.status)
        if not any(name in ("Content-Length", "Transfer-Encoding") for name, _ in answer.headers):
            self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(OSError):
                self.wfile.write(answer.body[: answer.cut])
            self.close_connection = answer.cut is not None

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving() -> Iterator[FaultyServer]:
    """Run a server until the block ends."""
    with FaultyServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()
