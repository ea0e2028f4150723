"""Sources, objects and whole runs against a real S3 server: OpenStack Swift's S3 layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import store_checks
from tests.servers.s3 import S3Server
from tonearm.library.objects import ObjectReader
from tonearm.settings import FetchSettings


def test_prefixes_globs_and_objects(s3: S3Server) -> None:
    store_checks.check_listing(s3)


def test_more_objects_than_a_page_holds(s3: S3Server) -> None:
    store_checks.check_pages(s3)


def test_keys_that_look_like_something_else(s3: S3Server) -> None:
    store_checks.check_odd_keys(s3)


def test_only_the_listed_version_is_read(s3: S3Server) -> None:
    store_checks.check_reading(s3)


def test_what_may_not_be_read_or_written(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store_checks.check_refusals(s3, monkeypatch)


def test_a_manifest_in_a_bucket(s3: S3Server) -> None:
    store_checks.check_manifest(s3)


def test_one_request_an_object(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put(bucket, {"a.mp3": b"1" * 1000})
    (ref,) = store_checks.listed(f"s3://{bucket}/a.mp3").values()
    before = len(s3.requests(bucket))
    ObjectReader(FetchSettings()).read(ref)
    assert [(method, status) for method, _, status in s3.requests(bucket)[before:]] == [("GET", 200)]


def test_a_library_from_a_bucket_to_a_bucket(s3: S3Server, songs: Path, tmp_path: Path) -> None:
    store_checks.check_run(s3, songs, tmp_path)
