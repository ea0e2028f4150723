"""The same against Ceph's RADOS Gateway, whose idea of S3 is another; skipped where Ceph is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import store_checks
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.slow


def test_objects(ceph: S3Server) -> None:
    """What holds on Swift holds on Ceph: objects are listed and read, whatever their names."""
    store_checks.check_listing(ceph)
    store_checks.check_odd_keys(ceph)
    store_checks.check_reading(ceph)
    store_checks.check_manifest(ceph)


def test_refusals(ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds on Swift holds on Ceph: refusals are errors with the fitting code."""
    store_checks.check_refusals(ceph, monkeypatch)


def test_one_writer_in_a_bucket(ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds on Swift holds on Ceph: of eight that take the lock at once one holds it."""
    store_checks.check_lock(ceph, monkeypatch)


def test_a_library_from_a_bucket_to_a_bucket(ceph: S3Server, songs: Path, tmp_path: Path) -> None:
    """What holds on Swift holds on Ceph: a library is tagged from bucket to bucket."""
    store_checks.check_run(ceph, songs, tmp_path)
