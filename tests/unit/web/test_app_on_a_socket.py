"""The app behind a real HTTP parser: bytes as they come over a socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.apps import App, listening

pytestmark = pytest.mark.processes  # it listens on a port


@pytest.fixture(scope="module", params=["h11", "httptools"])
def address(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    with listening(App(), request.param) as port:
        yield "127.0.0.1", port


def talk(address: tuple[str, int], *sent: bytes) -> bytes:
    """Return what is answered until the connection closes; each part is sent once the one before is answered."""
    with socket.create_connection(address, timeout=10) as connection:
        answer = b""
        for part in sent:
            connection.sendall(part)
            answer += connection.recv(2**16)
        while part := connection.recv(2**16):
            answer += part
    return answer


@pytest.mark.parametrize("name", [b"x-request-id", b"serve_multiplexed_model_id", b"x-session-id", b"authorization"])
def test_a_header_in_latin_1_is_no_bug(address: tuple[str, int], name: bytes) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + name + b": \xe9\r\nConnection: close\r\n\r\n"
    assert talk(address, head).startswith(b"HTTP/1.1 200 ")


def test_head_has_a_length_and_no_body(address: tuple[str, int]) -> None:
    head = b"%s /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    whole, bare = (talk(address, head % method).lower() for method in (b"GET", b"HEAD"))
    length = whole.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    assert b"content-length: " + length in bare
    assert whole.partition(b"\r\n\r\n")[2] and not bare.partition(b"\r\n\r\n")[2]


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(address: tuple[str, int]) -> None:
    head = b"POST /v1/view HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n%s\r\n"
    answer = talk(address, head % b"Connection: close\r\n", b"abc")
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 200 " in answer
    # What is refused by its head is refused before it is sent.
    refused = talk(address, head % b"Connection: close\r\nOrigin: https://evil.example\r\n")
    assert refused.startswith(b"HTTP/1.1 403 ")


def test_two_hosts_are_refused(address: tuple[str, int]) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert talk(address, head).startswith(b"HTTP/1.1 400 ")
