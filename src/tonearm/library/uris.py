"""The forms in which a place is written down.

A local track is an absolute path (``/music/a.mp3``), never relative, so it means the same in every working directory; a
path that is not UTF-8 is a ``file://`` URI with those bytes quoted. A key of an object store is written as it is
(``s3://bucket/what? #1.mp3``): nothing in it is quoted or cut off.
"""

from __future__ import annotations

import os
import posixpath
import re
import urllib.parse

SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
WILDCARDS = re.compile(r"[*?\[]")
ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
_CREDENTIAL = re.compile(
    r"(?i)(key(?:[_-]?id)?|token|secret|signature|credential|password|authorization)(\s*[=:]\s*)\S+"
)


def scheme(url: str) -> str:
    """Return the URL's scheme, ``file`` for a plain path; aliases such as ``s3a`` are resolved."""
    match = SCHEME.match(url)
    if match is None:
        return "file"
    found = match.group(1).lower()
    return ALIASES.get(found, found)


def is_local(url: str) -> bool:
    """Return whether ``url`` is a path of this machine."""
    return scheme(url) == "file"


def local_path(url: str) -> str:
    """Return the absolute path of a plain path (``~`` resolved) or a ``file://`` URI."""
    if SCHEME.match(url):
        quoted = urllib.parse.urlsplit(url.replace("?", "%3F").replace("#", "%23")).path
        return os.path.abspath(os.fsdecode(urllib.parse.unquote_to_bytes(quoted)))
    return os.path.abspath(os.path.expanduser(url))


def local_uri(path: str) -> str:
    """Return the form in which an absolute path is written down."""
    try:
        path.encode()
    except UnicodeEncodeError:  # surrogates: bytes that are not UTF-8
        return "file://" + urllib.parse.quote(os.fsencode(path))
    return path


def split_bucket(url: str) -> tuple[str, str]:
    """Return the bucket and the key, verbatim, of ``scheme://bucket/key``."""
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key


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
    if scheme(uri) in ("http", "https"):
        parts = urllib.parse.urlsplit(uri)
        uri = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return uri.encode("unicode_escape").decode() if not uri.isprintable() else uri


def scrubbed(text: str) -> str:
    """Return the first line of a foreign message, credentials left out."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = re.sub(r"://[^/\s@]+@", "://", line)
    line = re.sub(r"(https?://[^\s?\"']+)\?[^\s\"']*", r"\1", line)
    return _CREDENTIAL.sub(r"\1\2...", line)[:240]
