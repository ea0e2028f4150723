"""Where bytes are kept: local folders and object stores through fsspec, one configuration for all of them.

``s3://`` goes through s3fs, with the usual AWS variables, profiles and roles, and AWS_ENDPOINT_URL for other vendors.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

from tonearm.errors import DestinationError, SourceError

SCHEME = re.compile(r"^([a-z][a-z0-9+.-]+)://")
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, NUM_ATTEMPTS = 10, 60, 5
EXTRAS = {"gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "http": "http", "https": "http"}


def scheme(url: str) -> str:
    """Return the URL's scheme, ``file`` for a plain path."""
    match = SCHEME.match(url)
    return match.group(1) if match else "file"


def is_local(url: str) -> bool:
    """Return whether ``url`` is a path of this machine."""
    return scheme(url) == "file"


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of ``url`` and the path in it.

    Raises:
        SourceError: an unknown scheme, or one whose package is not installed.
    """
    kind = scheme(url)
    if kind == "file":
        path = url[len("file://") :] if url.startswith("file://") else url
        return _instance("file", os.getpid()), os.path.abspath(path)
    try:
        found = _instance(kind, os.getpid())
    except ValueError:
        raise SourceError(f"{url}: unknown scheme {kind}://; known are s3://, gs://, az://, https:// and paths") from None
    except ImportError:
        extra = EXTRAS.get(kind)
        advice = f"run pip install 'tonearm[{extra}]'" if extra else f"install the fsspec package for {kind}://"
        raise SourceError(f"{url}: {kind}:// needs a package that is not installed; {advice}") from None
    return found, found._strip_protocol(url)


@functools.cache
def _instance(kind: str, pid: int) -> Any:
    # One instance a process: an asynchronous file system does not survive a fork.
    del pid
    if kind in ("s3", "s3a"):
        return fsspec.filesystem(
            "s3",
            use_listings_cache=False,
            skip_instance_cache=True,
            config_kwargs={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "read_timeout": READ_TIMEOUT_S,
                "retries": {"max_attempts": NUM_ATTEMPTS, "mode": "standard"},
                "max_pool_connections": 32,
                "user_agent_extra": "tonearm",
            },
        )
    return fsspec.filesystem(kind, skip_instance_cache=True)


def arrow_filesystem(url: str) -> tuple[FileSystem, str]:
    """Return ``url`` as pyarrow and Ray Data take it: a file system and the path in it."""
    found, path = filesystem(url)
    if is_local(url):
        return LocalFileSystem(), path
    return PyFileSystem(FSSpecHandler(found)), path


def read_bytes(url: str) -> bytes:
    """Return the whole object.

    Raises:
        FileNotFoundError: there is none.
    """
    found, path = filesystem(url)
    data: bytes = found.cat_file(path)
    return data


def exists(url: str) -> bool:
    """Return whether there is an object or folder at ``url``."""
    found, path = filesystem(url)
    return bool(found.exists(path))


def write_text(url: str, text: str) -> None:
    """Write an object whole or not at all, its folders included.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    write_bytes(url, text.encode())


def write_bytes(url: str, data: bytes) -> None:
    """Write an object whole or not at all, its folders included.

    Raises:
        DestinationError: the place is full, read-only or refused.
    """
    found, path = filesystem(url)
    with writing(url):
        if is_local(url):
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
            try:
                partial.write_bytes(data)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        else:
            found.pipe_file(path, data)


@contextlib.contextmanager
def writing(url: str) -> Iterator[None]:
    """Turn what can go wrong while writing to ``url`` into one line.

    Raises:
        DestinationError: the place is full, read-only, missing or refused.
    """
    try:
        yield
    except PermissionError as error:
        raise DestinationError(f"{url} may not be written ({reason(error)}); give a place you may write, or other keys") from None
    except FileNotFoundError as error:
        raise DestinationError(f"{url} cannot be written ({reason(error)}); create the bucket or folder first") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DestinationError(f"no space left to write {url}; free some or give another --out") from None
        raise DestinationError(f"{url} cannot be written ({reason(error)})") from None


def reason(error: BaseException) -> str:
    """Return why a store refused, in one line and without credentials."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"(?i)(key|token|secret|signature)([=: ]+)\S+", r"\1\2...", text)[:200]
