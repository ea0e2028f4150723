"""What a request asks for, in whichever of HTTP's forms it says so."""

from __future__ import annotations

import re

import h11

ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


def in_origin_form(head: h11.Request) -> h11.Request:
    """Return a request to a proxy, whose target is a whole URL, as one to that URL's server (RFC 9112, 3.2.2)."""
    match = ABSOLUTE.fullmatch(head.target)
    if match is None:
        return head
    host, rest = match.groups()
    fields = [(name, host if name == b"host" else value) for name, value in head.headers]
    target = rest if rest.startswith(b"/") else b"/" + rest
    return h11.Request(method=head.method, headers=fields, target=target, http_version=head.http_version)
