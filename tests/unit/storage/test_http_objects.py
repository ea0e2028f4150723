"""What is read from an HTTP answer's headers, and which addresses are none, without a server."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from multidict import CIMultiDict

from tonearm.errors import FetchError
from tonearm.storage.http_objects import content_encoding, etag, get_headers, size_bytes


@pytest.mark.parametrize(
    "url", ["http://", "https://ex ample.org/a", "http://[v1.a]/x", "http://a..b/x", "http://h:abc/x", "ftp://h/x"]
)
def test_what_is_no_web_address_is_a_track_that_is_not_found(url: str) -> None:
    with pytest.raises(FetchError, match="is no web address") as caught:
        get_headers(url, timeout_s=1.0)
    assert caught.value.code == "not_found"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"ETag": '"a1"'}, "a1"), ({"ETag": 'W/"a1"'}, "a1"), ({"ETag": '""'}, None), ({}, None)],
)
def test_an_etag_is_written_without_quotes_weak_or_not(headers: Mapping[str, str], expected: str | None) -> None:
    assert etag(headers) == expected


@pytest.mark.parametrize("length", ["", "-1", "1e3", "12 ", "9" * 19, "\u0661"])
def test_a_length_that_is_no_number_is_not_known(length: str) -> None:
    assert size_bytes(CIMultiDict({"Content-Length": length})) is None


def test_the_size_of_a_packed_object_is_not_known() -> None:
    lines = [("Content-Length", "12"), ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    assert size_bytes(CIMultiDict(lines[:2])) == 12
    assert content_encoding(CIMultiDict(lines)) == "identity,gzip"
    assert size_bytes(CIMultiDict(lines)) is None
