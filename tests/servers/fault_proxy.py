"""A TCP proxy before an S3 server that does what networks and stores do on bad days.

It looks at the first line of each request, so that faults can be aimed (``GET`` of the music, say), and passes all else
on byte by byte. Which requests are hit is decided by a seed and the number of the request, not by time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import re
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Literal

Kind = Literal["slow_down", "reset", "stall", "truncate", "refuse", "deny"]
METHODS = re.compile(rb"^(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP/1\.[01]\r\n")
ANSWERS = {
    "slow_down": (503, "Slow Down", "SlowDown"),
    "refuse": (403, "Forbidden", "InvalidAccessKeyId"),
    "deny": (403, "Forbidden", "AccessDenied"),
}
CUT_AFTER = 700


@dataclasses.dataclass
class Fault:
    """What is done to some requests.

    Attributes:
        share: of the requests that match.
        match: a pattern of ``METHOD PATH``.
        most: hit no more than so many.
        is_on: switched by the test.
    """

    kind: Kind
    share: float = 1.0
    match: str = ""
    most: int | None = None
    is_on: bool = True


class FaultProxy:
    """Listens on loopback, or on ``host``, and forwards to ``target`` with ``faults``."""

    def __init__(self, target: tuple[str, int], *, seed: int = 0, host: str = "127.0.0.1") -> None:
        self.target = target
        self.faults: list[Fault] = []
        self.hits: Counter[str] = Counter()
        self.requests: list[str] = []
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.listener = socket.create_server((host, 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://{host}:{self.port}"

    def begin(self, *, seed: int) -> None:
        """Forget what befell requests so far, and let none befall the next."""
        for fault in self.faults:
            fault.is_on = False  # what is stalled goes on
        with self.lock:
            self.faults, self.hits, self.requests, self.random = [], Counter(), [], random.Random(seed)

    def choose(self, line: str) -> Fault | None:
        """Return what is to befall a request, and note it."""
        with self.lock:
            self.requests.append(line)
            for fault in self.faults:
                if not fault.is_on or not re.search(fault.match, line):
                    continue
                if fault.most is not None and self.hits[fault.kind] >= fault.most:
                    continue
                if self.random.random() < fault.share:
                    self.hits[fault.kind] += 1
                    return fault
        return None

    def serve(self) -> None:
        """Accept connections until ``ended``."""
        self.listener.settimeout(0.1)
        while not self.ended.is_set():
            try:
                client, _ = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self.target) as upstream:
            left: int | None = None  # bytes of the answer that still pass, when it is to be cut
            is_answering = True
            while not self.ended.is_set():
                ready, _, _ = select.select([client, upstream], [], [], 0.2)
                if client in ready:
                    data = client.recv(2**16)
                    if not data:
                        return
                    found = METHODS.match(data) if is_answering else None
                    if found is not None:
                        fault = self.choose(f"{found[1].decode()} {found[2].decode()}")
                        is_answering = False
                        left = CUT_AFTER if fault is not None and fault.kind == "truncate" else None
                        if fault is not None and fault.kind != "truncate" and self._befall(client, fault):
                            return
                    upstream.sendall(data)
                if upstream in ready:
                    data = upstream.recv(2**16)
                    if not data:
                        return
                    is_answering = True
                    if left is not None:
                        client.sendall(data[:left])
                        left -= min(left, len(data))
                        if not left:
                            return
                        continue
                    client.sendall(data)

    def _befall(self, client: socket.socket, fault: Fault) -> bool:
        if fault.kind == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fault.kind == "stall":
            while fault.is_on and not self.ended.wait(0.05):
                if select.select([client], [], [], 0)[0] and not client.recv(2**16):
                    break  # the client has had enough
        else:
            status, phrase, code = ANSWERS[fault.kind]
            body = (
                f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test asked</Message></Error>".encode()
            )
            head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
            client.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)
            client.shutdown(socket.SHUT_WR)
            # A body that is still being sent is read away, or closing would take the answer with it.
            client.settimeout(5)
            while client.recv(2**16):
                pass
        return True


@contextlib.contextmanager
def faulty(endpoint: str, *, seed: int = 0, host: str = "127.0.0.1") -> Iterator[FaultProxy]:
    """Run a proxy to ``endpoint``, ``http://HOST:PORT``, until the block ends."""
    name, _, port = endpoint.removeprefix("http://").partition(":")
    proxy = FaultProxy((name, int(port)), seed=seed, host=host)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        proxy.listener.close()
        thread.join()
