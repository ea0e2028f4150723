"""Which URIs a server reads for a stranger: those under prefixes that its operator names, and nothing that tricks.

A path is compared part by part, so ``s3://music/a`` lets in ``s3://music/a/1.mp3`` but not ``s3://music/abc``.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import urllib.parse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tonearm.errors import FetchError, RequestError, SettingsError
from tonearm.library.uris import SCHEME, scheme, shown

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

SCHEMES = ("s3", "gs", "az", "https", "http")
MAX_CHARACTERS = 4096
# %2e%2e and %252e%252e: a server behind the first may decode once more.
DECODINGS = 3


class AllowedUris:
    """The prefixes that an operator allows.

    Raises:
        SettingsError: a prefix that is none.
    """

    def __init__(self, prefixes: Sequence[str]) -> None:
        self.prefixes = tuple(_parts(prefix) for prefix in prefixes)
        for prefix, (kind, place, _) in zip(prefixes, self.prefixes, strict=True):
            if kind not in SCHEMES or not place:
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
            raise RequestError(f"{shown(uri[:200])} is not under a prefix that is read here", code="uri_not_allowed")

    def covers(self, uri: str) -> bool:
        """Return whether ``uri`` is plainly under one of the prefixes."""
        if len(uri) > MAX_CHARACTERS or not uri.isprintable() or "\\" in uri or not SCHEME.match(uri):
            return False
        kind, place, path = _parts(uri)
        if kind not in SCHEMES or "@" in place:
            return False
        if _has_dots(path):
            return False
        return any((kind, place) == allowed[:2] and _is_under(path, allowed[2]) for allowed in self.prefixes)

    def check_redirect(self, url: str) -> bool:
        """Return whether ``url``, which a server has sent us on to, is itself under a prefix.

        Raises:
            FetchError: it is neither that nor a plain web address.
        """
        if self.covers(url):
            return True
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _may_be_public(parts.hostname):
            raise FetchError(f"redirected to {shown(url[:200])}, which is not read here", code="access_denied")
        return False


def public_resolver() -> AbstractResolver:
    """Return an aiohttp resolver that finds only addresses of the public internet.

    The check is made on the address that is then connected to: a name cannot answer twice, once for each.
    """
    from aiohttp.resolver import ThreadedResolver

    class PublicResolver(ThreadedResolver):
        async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
            found = await super().resolve(host, port, family)
            public = [entry for entry in found if ipaddress.ip_address(entry["host"]).is_global]
            if not public:
                raise FetchError(f"redirected to {host}, which has no public address", code="access_denied")
            return public

    return PublicResolver()


def _parts(uri: str) -> tuple[str, str, str]:
    """Return scheme, host or bucket, and path."""
    place, _, path = uri.partition("://")[2].partition("/")
    kind = scheme(uri)
    if kind in ("http", "https"):
        path = re.split(r"[?#]", path, maxsplit=1)[0]
        if "?" in place or "#" in place:
            return kind, "", path
        place = place.lower().removesuffix(":443" if kind == "https" else ":80")
    return kind, place, path


def _has_dots(path: str) -> bool:
    for _ in range(DECODINGS):
        if any(part in (".", "..") for part in re.split(r"[/\\]", path)) or "\x00" in path:
            return True
        path = urllib.parse.unquote(path)
    return False


def _is_under(path: str, folder: str) -> bool:
    return not folder or path.startswith(folder if folder.endswith("/") else folder + "/") or path == folder


def _may_be_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return True  # a name: what it stands for is checked when it is resolved
