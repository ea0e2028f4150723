"""The forms in which a place is written down.

A local track is an absolute path (``/music/a.mp3``), never relative, so it means the same in every working directory; a
path that is not UTF-8 is a ``file://`` URI with those bytes quoted. A key of an object store is written as it is
(``s3://bucket/what? #1.mp3``): nothing in it is quoted or cut off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import posixpath
import re
import urllib.parse
from typing import NamedTuple

SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
WILDCARDS = re.compile(r"[*?\[]")
ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
# RFC 3986, appendix B. It matches whatever there is, while urllib.parse.urlsplit raises on http://[::1/a.
_PARTS = re.compile(r"(?s)(?:[^:/?#]+:)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?")
_PORT = re.compile(r"[^:]*(:[0-9]*)?|.*\](:[0-9]*)?")
# A web address that is written so that it counts as a path: behind a space, or with one slash.
_IN_PATH = re.compile(r"(?is)(https?:/+)(?:[^/@?#]*@)?([^?#]*).*")
_CREDENTIAL = re.compile(
    r"(?i)(key(?:[_-]?id)?|token|secret|signature|credential|password|authorization)(\s*[=:]\s*)\S+"
)


def scheme(url: str) -> str:
    """Return the URL's scheme, ``file`` for a plain path; aliases such as ``s3a`` are resolved."""
    match = SCHEME.match(url)
    if match is None:
        return "file"
    name = match.group(1).lower()
    return ALIASES.get(name, name)


@dataclasses.dataclass(frozen=True)
class Address:
    """A URL or a path, parsed once: whoever is handed one asks nothing of its text again.

    Attributes:
        url: as it was given.
        scheme: ``file`` for a path; aliases such as ``s3a`` are resolved.
        path: on this machine an absolute path, else the bucket and the key as they are written.
    """

    url: str
    scheme: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Return the address that ``url`` is."""
        kind = scheme(url)
        return cls(url, kind, local_path(url) if kind == "file" else url.partition("://")[2])

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return self.scheme == "file"

    @property
    def shown(self) -> str:
        """The address for a message; see ``shown``."""
        return shown(self.url)


class UrlParts(NamedTuple):
    """The parts of a URL as they are written; ``place`` is the host with user and port."""

    place: str
    path: str
    query: str


def split_url(url: str) -> UrlParts:
    """Return the parts of a URL, whatever is in them: nothing is judged, and a fragment is left out."""
    place, path, query = _PARTS.match(url).groups()  # type: ignore[union-attr]  # it matches every string
    return UrlParts(place or "", path, query or "")


def to_bytes(text: str) -> bytes:
    """Return the bytes of a name; a lone surrogate is the byte that it stands for, or as UTF-8 would write it."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def to_unicode(url: str) -> str:
    """Return ``url`` with what is not Unicode as percent escapes, so that every file and database takes it."""
    if url.isascii() or not re.search("[\ud800-\udfff]", url):
        return url
    return "".join(urllib.parse.quote(to_bytes(sign)) if "\ud800" <= sign <= "\udfff" else sign for sign in url)


def is_local(url: str) -> bool:
    """Return whether ``url`` is a path of this machine."""
    return scheme(url) == "file"


def local_path(url: str) -> str:
    """Return the absolute path of a plain path (``~`` resolved) or a ``file://`` URI."""
    if SCHEME.match(url):
        _, slash, quoted = url.partition("://")[2].partition("/")
        return os.path.abspath(os.fsdecode(urllib.parse.unquote_to_bytes(to_bytes(slash + quoted))))
    with contextlib.suppress(ValueError):  # no user has a name like that
        url = os.path.expanduser(url)
    return os.path.abspath(url)


def local_uri(path: str) -> str:
    """Return the form in which an absolute path is written down."""
    try:
        path.encode()
    except UnicodeEncodeError:  # surrogates: bytes that are not UTF-8
        return "file://" + urllib.parse.quote(to_bytes(path))
    return path


class BucketKey(NamedTuple):
    """Where an object is in a store, verbatim."""

    bucket: str
    key: str


def split_bucket(url: str) -> BucketKey:
    """Return the parts of ``scheme://bucket/key``."""
    bucket, _, key = url.partition("://")[2].partition("/")
    return BucketKey(bucket, key)


def folder_of(url: str) -> str:
    """Return the folder that holds the file at ``url``, with ``/`` at its end."""
    if is_local(url):
        return posixpath.join(posixpath.dirname(local_path(url)), "")
    bucket, key = split_bucket(url)
    return f"{scheme(url)}://{posixpath.join(bucket, posixpath.dirname(key), '')}"


def resolve(uri: str, folder: str) -> str:
    """Return ``uri`` in the form it is written down in, relative to ``folder`` unless it is absolute."""
    if SCHEME.match(uri):
        if is_local(uri):
            return local_uri(local_path(uri))
        return f"{scheme(uri)}://{uri.partition('://')[2]}"
    if is_local(folder):
        return local_uri(os.path.normpath(posixpath.join(folder, uri)))
    if uri.startswith("/"):
        return local_uri(os.path.normpath(uri))
    bucket, key = split_bucket(folder)
    parts: list[str] = key.rstrip("/").split("/") if key.strip("/") else []
    for part in uri.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in (".", ".."):
            parts.append(part)
    return f"{scheme(folder)}://{bucket}/{'/'.join(parts)}"


def shown(uri: str) -> str:
    """Return ``uri`` for a message: without user, password and query, which may be credentials, and on one line."""
    kind = scheme(uri)
    if kind in ("http", "https"):
        place, path, _ = split_url(uri)
        if "@" not in place and not _PORT.fullmatch(place):  # a password with a slash or a question mark in it
            place, path = uri.partition("://")[2].rpartition("@")[2], ""
            place = re.split(r"[?#]", place, maxsplit=1)[0]
        uri = f"{kind}://{place.rpartition('@')[2]}{path}"
    elif kind == "file":
        uri = _IN_PATH.sub(r"\1\2", uri)
    else:
        place, slash, key = uri.partition("://")[2].partition("/")
        user, at, bucket = place.rpartition("@")
        if at and ":" in user:  # abfs://CONTAINER@ACCOUNT is no credential
            uri = f"{uri.partition('://')[0]}://{bucket}{slash}{key}"
    return visible(uri)


def visible(text: str) -> str:
    """Return ``text`` on one line, with what steers a terminal or turns its writing round as escapes."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def scrubbed(text: str) -> str:
    """Return the first line of a foreign message, credentials left out and without signs that steer a terminal."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = re.sub(r"://[^/\s@]+@", "://", line)
    line = re.sub(r"(https?://[^\s?\"']+)\?[^\s\"']*", r"\1", line)
    line = _CREDENTIAL.sub(r"\1\2...", line)[:240]
    # A lone surrogate, of a name or a header that is not Unicode, would make the message one that cannot be stored.
    return visible(line)
