"""One fsspec file system per process and environment, made where it is first asked for."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import fsspec

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from s3fs import S3FileSystem

# Six attempts with a wait that doubles ride out half a minute of a store that asks to slow down.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, NUM_ATTEMPTS = 5.0, 30.0, 6


def instance(kind: str) -> AbstractFileSystem:
    """Return this process's file system for the scheme ``kind``; of S3 see ``s3_filesystem``.

    Raises:
        ValueError: an unknown scheme.
        ImportError: its package is not installed.
    """
    return _made(kind, os.getpid(), ())


def s3_filesystem(*, num_attempts: int = NUM_ATTEMPTS, read_timeout_s: float = READ_TIMEOUT_S) -> S3FileSystem:
    """Return this process's s3fs file system for the credentials and endpoint that the environment names now.

    Listings are not cached: another process may have written since.

    Args:
        num_attempts: how often the client itself tries a request.
        read_timeout_s: how long a connection may be silent.
    """
    environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    return _made("s3", os.getpid(), environment, num_attempts, read_timeout_s)


@functools.cache
def _made(
    kind: str,
    pid: int,
    environment: tuple[tuple[str, str], ...],
    num_attempts: int = NUM_ATTEMPTS,
    read_timeout_s: float = READ_TIMEOUT_S,
) -> AbstractFileSystem:
    # One instance a process and an environment: an asynchronous file system does not survive a fork, and reads the
    # environment only once.
    del pid, environment
    if kind != "s3":
        return fsspec.filesystem(kind, skip_instance_cache=True, use_listings_cache=False)
    return fsspec.filesystem(
        "s3",
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": read_timeout_s,
            "retries": {"total_max_attempts": num_attempts, "mode": "standard"},
            "max_pool_connections": 32,
            "user_agent_extra": "tonearm",
        },
    )
