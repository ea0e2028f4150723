"""What errors of stores mean, whichever library raised them, and whether another attempt may help."""

from __future__ import annotations

import errno

import aiohttp
import botocore.exceptions
import pytest

from tonearm.storage.store_errors import FETCH_CODES, Kind, diagnose, http_failure


def answer(code: str, status: int = 400) -> BaseException:
    """Return an error of S3 as s3fs raises it: an ``OSError`` whose cause is botocore's."""
    response = {"Error": {"Code": code, "Message": "words"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = OSError(errno.EIO, "words")
    error.__cause__ = botocore.exceptions.ClientError(response, "GetObject")  # type: ignore[arg-type]
    return error


@pytest.mark.parametrize(
    ("error", "kind", "is_transient"),
    [
        (answer("NoSuchBucket", 404), "no_bucket", False),
        (answer("NoSuchKey", 404), "not_found", False),
        (answer("AccessDenied", 403), "access_denied", False),
        (answer("ExpiredToken"), "access_denied", True),
        (answer("SlowDown", 503), "unreachable", True),
        (answer("PreconditionFailed", 412), "changed", False),
        (answer("Unheard"), "other", False),
        (botocore.exceptions.NoCredentialsError(), "no_credentials", False),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://h"), "timeout", True),
        (aiohttp.ServerDisconnectedError(), "unreachable", True),
        (aiohttp.InvalidURL("http://h"), "not_found", False),
        (PermissionError(errno.EACCES, "Permission denied"), "access_denied", False),
        (OSError(errno.ELOOP, "Too many levels"), "not_found", False),
        (TimeoutError(), "timeout", True),
        (ConnectionResetError(), "unreachable", True),
        (OSError("something else"), "other", True),
        (ValueError("not understood"), "other", False),
    ],
)
def test_an_error_is_diagnosed_by_its_meaning(error: BaseException, kind: Kind, is_transient: bool) -> None:
    failure = diagnose(error)
    assert (failure.kind, failure.is_transient) == (kind, is_transient)
    assert failure.fetch_code == FETCH_CODES[kind]
    assert failure.reason


def test_a_signed_address_is_not_in_the_reason() -> None:
    url = "https://user:PASSWORD@store.example.org/bucket/key?X-Amz-Signature=SECRET"
    failure = diagnose(botocore.exceptions.EndpointConnectionError(endpoint_url=url, error="refused"))
    assert failure.reason == "no connection to https://store.example.org"


@pytest.mark.parametrize(
    ("status", "kind", "is_transient"),
    [
        (404, "not_found", False),
        (410, "not_found", False),
        (401, "access_denied", False),
        (412, "changed", False),
        (429, "unreachable", True),
        (503, "unreachable", True),
        (418, "other", False),
    ],
)
def test_an_http_status_is_diagnosed(status: int, kind: Kind, is_transient: bool) -> None:
    failure = http_failure(status, "Words")
    assert (failure.kind, failure.is_transient, failure.reason) == (kind, is_transient, f"HTTP {status} Words")


def test_an_error_that_cannot_even_say_itself_is_diagnosed() -> None:
    class Mute(RuntimeError):
        def __str__(self) -> str:
            raise ValueError("no words")

    assert diagnose(Mute()).reason == "Mute"
