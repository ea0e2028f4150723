"""Real servers for the integration tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.ceph_s3 import start as start_ceph
from tests.servers.ceph_s3 import stop as stop_ceph
from tests.servers.s3 import S3Server
from tests.servers.swift_s3 import ServerUnavailable
from tests.servers.swift_s3 import start as start_swift
from tests.servers.swift_s3 import stop as stop_swift


def _serve(
    folder: Path, start: Callable[..., dict[str, str]], stop: Callable[[Path], None], access_log: Path | None
) -> Iterator[S3Server]:
    import s3fs

    try:
        env = start(folder, die_with_parent=True)
    except ServerUnavailable as error:
        pytest.skip(str(error))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in env.items():
                patch.setenv(name, value)
            endpoint = env["AWS_ENDPOINT_URL"]
            keys = {"key": env["AWS_ACCESS_KEY_ID"], "secret": env["AWS_SECRET_ACCESS_KEY"]}
            fs = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True, **keys)
            yield S3Server(env, endpoint, fs, access_log)
    finally:
        stop(folder)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """OpenStack Swift's S3 layer on a free port, its keys and endpoint in the environment; see ``S3Server``."""
    folder = tmp_path_factory.mktemp("swift")
    yield from _serve(folder, start_swift, stop_swift, folder / "log" / "proxy.log")


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Ceph's RADOS Gateway, a second opinion; its environment replaces that of ``s3`` while a module uses it."""
    yield from _serve(tmp_path_factory.mktemp("ceph"), start_ceph, stop_ceph, None)
