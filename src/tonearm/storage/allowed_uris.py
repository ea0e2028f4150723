"""Which URIs a server reads for a stranger: those under prefixes that its operator names, and nothing that tricks.

A path is compared part by part, so ``s3://music/a`` lets in ``s3://music/a/1.mp3`` but not ``s3://music/abc``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import urllib.parse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tonearm.errors import FetchError, RequestError, SettingsError
from tonearm.storage.uris import SCHEME, scheme, shown, split_url

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

SCHEMES = ("s3", "gs", "az", "https", "http")
MAX_CHARACTERS = 4096
SHOWN_CHARACTERS = 200
# %2e, %252e, %25252e: each server behind another may decode once more. No honest name needs so many.
MAX_DECODINGS = 8
# UTF-8 that is longer than it may be, which old servers take for a dot and a slash.
OVERLONG = re.compile(r"(?i)%c0%a[ef]|%e0%80%a[ef]|%u002[ef]")
DEFAULT_PORTS = {"http": 80, "https": 443}
HOST_AND_PORT = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::([0-9]{0,5}))?")
# Where an IPv6 address holds an IPv4 address that a gateway sends it on to, and by how many bits that is shifted.
CARRIERS = [
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (
        ("::/96", 0),  # IPv4-compatible
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("::ffff:0:0:0/96", 0),  # IPv4-translated, RFC 2765
        ("64:ff9b::/96", 0),  # NAT64, RFC 6052
        ("2002::/16", 80),  # 6to4, RFC 3056
    )
]
# Held to be global by Python 3.11: NAT64 and site-local addresses of a network itself (RFC 8215, RFC 3879), and the
# anycast of 6to4 relays.
NOT_PUBLIC = [ipaddress.ip_network(name) for name in ("64:ff9b:1::/48", "fec0::/10", "192.88.99.0/24")]


class AllowedUris:
    """The prefixes that an operator allows.

    Raises:
        SettingsError: a prefix that is none.
    """

    def __init__(self, prefixes: Sequence[str]) -> None:
        self.prefixes = tuple(_parts(prefix) for prefix in prefixes)
        for prefix, parts in zip(prefixes, self.prefixes, strict=True):
            if parts.scheme not in SCHEMES or not parts.place:
                raise SettingsError(
                    f"serve.allow_uris: got {shown(prefix)!r}, expected a prefix such as s3://bucket/folder/ or "
                    "https://host/folder/; local files are never read for a client"
                )

    def check(self, uri: str) -> None:
        """Refuse what is not under a prefix.

        Raises:
            RequestError: uri_not_allowed.
        """
        if not self.covers(uri):
            place = shown(uri)[:SHOWN_CHARACTERS]  # cut first, a password might not look like one any more
            raise RequestError(f"{place} is not under a prefix that is read here", code="uri_not_allowed")

    def covers(self, uri: str) -> bool:
        """Return whether ``uri`` is plainly under one of the prefixes."""
        if len(uri) > MAX_CHARACTERS or not uri.isprintable() or "\\" in uri or not SCHEME.match(uri):
            return False
        parts = _parts(uri)
        if parts.scheme not in SCHEMES or "@" in parts.place:
            return False
        if _has_dots(parts.path):
            return False
        return any(parts.is_under(prefix) for prefix in self.prefixes)

    def check_redirect(self, url: str) -> bool:
        """Return whether ``url``, which a server has sent us on to, is itself under a prefix.

        Raises:
            FetchError: it is neither that nor a plain web address.
        """
        if self.covers(url):
            return True
        kind, place = scheme(url), split_url(url).place.rpartition("@")[2].lower()
        match = HOST_AND_PORT.fullmatch(place)
        if kind not in DEFAULT_PORTS or match is None or not _may_be_public(match.group(1).strip("[]")):
            place = shown(url)[:SHOWN_CHARACTERS]
            raise FetchError(f"redirected to {place}, which is not read here", code="access_denied")
        return False


def public_resolver() -> AbstractResolver:
    """Return an aiohttp resolver that finds only addresses of the public internet.

    The check is made on the address that is then connected to: a name cannot answer twice, once for each.
    """
    from aiohttp.resolver import ThreadedResolver

    class PublicResolver(ThreadedResolver):
        async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
            entries = await super().resolve(host, port, family)
            public = [entry for entry in entries if is_public(entry["host"])]
            if not public:
                raise FetchError(f"redirected to {host}, which has no public address", code="access_denied")
            return public

    return PublicResolver()


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet, and so is each that it may be sent on to.

    Raises:
        ValueError: it is no IP address.
    """
    ip = ipaddress.ip_address(address)
    value = int(ip)
    inner = [(value >> shift) & 0xFFFFFFFF for network, shift in CARRIERS if ip in network]
    # Whether a carrier is public by itself, versions of Python disagree; what it carries decides.
    is_global = ip.is_global or bool(inner)
    if not is_global or ip.is_multicast or any(ip in network for network in NOT_PUBLIC):
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return True
    if value >> 32 & 0xFDFFFFFF == 0x5EFE:  # ISATAP, RFC 5214
        inner.append(value & 0xFFFFFFFF)
    return all(is_public(str(ipaddress.IPv4Address(number))) for number in inner)


class _Parts(NamedTuple):
    """Scheme, host (of the web with its port) or bucket, and path."""

    scheme: str
    place: str
    path: str

    def is_under(self, prefix: _Parts) -> bool:
        return (self.scheme, self.place) == (prefix.scheme, prefix.place) and _is_under(self.path, prefix.path)


def _parts(uri: str) -> _Parts:
    """Return the parts of ``uri``; without a place where it is malformed."""
    kind = scheme(uri)
    if kind not in DEFAULT_PORTS:
        place, _, path = uri.partition("://")[2].partition("/")
        return _Parts(kind, place, path)
    parts = split_url(uri)
    if "@" in parts.place:
        return _Parts(kind, parts.place, parts.path)
    match = HOST_AND_PORT.fullmatch(parts.place.lower())
    has_path = parts.path or uri.endswith(parts.place)  # https://host?a/ and https://host#a/ have none
    if match is None or not has_path:
        return _Parts(kind, "", parts.path)
    host, port = match.groups()
    return _Parts(kind, f"{host}:{int(port or DEFAULT_PORTS[kind])}", parts.path.removeprefix("/"))


def _has_dots(path: str) -> bool:
    """Return whether a server may take a part of ``path`` for this or for the outer folder, or it cannot be told."""
    for _ in range(MAX_DECODINGS):
        # Behind a semicolon Java's servers expect parameters: `..;x` is `..` to them.
        if any(part.partition(";")[0] in (".", "..") for part in re.split(r"[/\\]", path)):
            return True
        if "\x00" in path or OVERLONG.search(path):
            return True
        plain = urllib.parse.unquote(path)
        if plain == path:
            return False
        path = plain
    return True


def _is_under(path: str, folder: str) -> bool:
    return not folder or path.startswith(folder if folder.endswith("/") else folder + "/") or path == folder


def _may_be_public(host: str) -> bool:
    # 127.1, 0x7f.1 and 2130706433, which the system takes for an address
    with contextlib.suppress(OSError, ValueError):
        host = socket.inet_ntoa(socket.inet_aton(host))
    try:
        return is_public(host)
    except ValueError:
        return True  # a name: what it stands for is checked when it is resolved
