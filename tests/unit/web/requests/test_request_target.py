"""A request to a proxy names a whole URL; it is read as one to that URL's server."""

from __future__ import annotations

import h11
import pytest

from tonearm.web.requests.request_target import in_origin_form


@pytest.mark.parametrize(
    ("target", "expected", "host"),
    [
        (b"/healthz?a=1", b"/healthz?a=1", b"asked"),
        (b"http://proxied:80/healthz?a=1", b"/healthz?a=1", b"proxied:80"),
        (b"HTTPS://proxied", b"/", b"proxied"),
        (b"http://proxied?a=http://b/", b"/?a=http://b/", b"proxied"),
        (b"ftp://proxied/", b"ftp://proxied/", b"asked"),
    ],
)
def test_a_whole_url_becomes_its_path_and_its_host(target: bytes, expected: bytes, host: bytes) -> None:
    head = in_origin_form(h11.Request(method="GET", headers=[("Host", "asked"), ("X", "y")], target=target))
    assert (head.target, dict(head.headers)) == (expected, {b"host": host, b"x": b"y"})
    assert head.http_version == b"1.1"
