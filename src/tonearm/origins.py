"""What names a server to its clients: a host with its port, a browser's origin, the path under which a proxy has it.

All of them are parsed, not searched for something: ``[::1]evil`` begins like an address and is none.
"""

from __future__ import annotations

import ipaddress
import re

from tonearm.errors import SettingsError

ANY_ORIGIN = "*"
DEFAULT_PORTS = {"http": 80, "https": 443}
# Where the server has something itself; a proxy's sub-path of such a name could not be told from it.
ROUTES = ("models", "v1", "healthz", "metrics", "docs", "openapi.json", "page", "swagger")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?)(?::([0-9]{1,5}))?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def split_host(text: str) -> tuple[str, int | None] | None:
    """Return the name and the port of a ``Host`` header, in lower case and without a dot at its end.

    None where it is not a host: user names, odd characters, ports that are none, half an IPv6 address.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    name, port = match[1].lower().removesuffix("."), int(match[2]) if match[2] else None
    if port is not None and not 1 <= port <= 65535:
        return None
    if name.startswith("["):
        try:
            name = f"[{ipaddress.IPv6Address(name[1:-1]).compressed}]"
        except ValueError:
            return None
    return name, port


def canonical_origin(text: str) -> str | None:
    """Return an ``Origin`` as browsers send it, without the port that its scheme has anyway; None where it is none.

    ``null``, which sandboxed pages and local files send, is none.
    """
    scheme, _, authority = text.partition("://")
    host = split_host(authority)
    if host is None or not _SCHEME.fullmatch(scheme):
        return None
    (name, port), scheme = host, scheme.lower()
    return f"{scheme}://{name}" if port in (None, DEFAULT_PORTS.get(scheme)) else f"{scheme}://{name}:{port}"


def check_origins(origins: tuple[str, ...]) -> None:
    """Refuse what is neither an origin nor ``*``.

    Raises:
        SettingsError: with what the origin probably is.
    """
    for origin in origins:
        if origin == ANY_ORIGIN or canonical_origin(origin) is not None:
            continue
        raise SettingsError(
            f"serve.allow_origins: got {origin[:200]!r}, expected an origin such as https://music.example or "
            f"http://localhost:3000, or * for any; {_advice(origin)}"
        )


def check_root_path(path: str) -> None:
    """Refuse what is no path under which a proxy could have the server; empty and ``/`` mean none.

    Raises:
        SettingsError: another form, or a name that a route has.
    """
    stripped = path.removesuffix("/")
    if stripped and not _ROOT_PATH.fullmatch(stripped):
        raise SettingsError(
            f"serve.root_path: got {path[:200]!r}, expected the path under which a proxy has this server, such as "
            "/tonearm: a slash first, then letters, digits and ._~-"
        )
    first = stripped.split("/")[1] if stripped else ""
    if first in ROUTES:
        raise SettingsError(
            f"serve.root_path: got {path!r}, expected a path that does not begin like a route of the server itself "
            f"({', '.join(ROUTES)})"
        )


def _advice(origin: str) -> str:
    if origin == "null":
        return "null is what the sandboxed pages and local files of anybody send"
    scheme, separator, rest = origin.partition("://")
    if not separator:
        return "it has no scheme"
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if split_host(authority) is not None:
        return f"without a path: {scheme}://{authority}"
    if "*" in authority:
        return "each origin is named in full"
    if not authority.isascii():
        return "names with letters beyond ASCII are written as browsers send them (xn--...)"
    return f"{authority!r} is not a host with a port"
