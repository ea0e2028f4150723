from __future__ import annotations

import asyncio

import pytest

from tonearm.errors import FetchError, RequestError, SettingsError
from tonearm.library.allowed_uris import AllowedUris, public_resolver

ALLOWED = AllowedUris(["s3://music/flac/", "https://cdn.example.org/a/", "http://10.0.0.5:9000/open", "gs://all"])


@pytest.mark.parametrize(
    "uri",
    [
        "s3://music/flac/a.flac",
        "s3a://music/flac/a.flac",
        "s3://music/flac/what? #1 100%.mp3",
        "https://cdn.example.org/a/b/c.mp3?signature=x/../y",
        "https://CDN.example.org:443/a/b.mp3",
        "http://10.0.0.5:9000/open/a.wav",
        "gs://all/of/it.ogg",
        "s3://music/flac/a..b.flac",
    ],
)
def test_what_is_under_a_prefix(uri: str) -> None:
    ALLOWED.check(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/etc/passwd",
        "file:///etc/passwd",
        "flac/a.flac",
        "s3://music/flacs/a.flac",
        "s3://music/flac/../secret.flac",
        "s3://music/flac/%2e%2e/secret.flac",
        "s3://music/flac/%252E%252e/secret.flac",
        "s3://music/flac/./a.flac",
        "s3://music2/flac/a.flac",
        "http://cdn.example.org/a/b.mp3",
        "https://cdn.example.org/ab/c.mp3",
        "https://cdn.example.org/a/..\\..\\b",
        "https://cdn.example.org.evil.org/a/b.mp3",
        "https://cdn.example.org@evil.org/a/b.mp3",
        "https://evil.org/https://cdn.example.org/a/b.mp3",
        "https://evil.org?https://cdn.example.org/a/",
        "https://cdn.example.org:8443/a/b.mp3",
        "http://10.0.0.5/open/a.wav",
        "http://10.0.0.5:9000/opened",
        "https://cdn.example.org/a/b\r\nHost: evil.org",
        "hf://datasets/a/b",
        "data:audio/wav;base64,AAAA",
        "s3://music/flac/" + "a" * 5000,
    ],
)
def test_what_is_not(uri: str) -> None:
    with pytest.raises(RequestError, match="not under a prefix") as caught:
        ALLOWED.check(uri)
    assert (caught.value.code, caught.value.http_status) == ("uri_not_allowed", 403)


def test_nothing_is_allowed_by_default() -> None:
    assert not AllowedUris([]).covers("s3://music/a.flac")


@pytest.mark.parametrize("prefix", ["/music", "file:///music", "music", "s3://", "https://host?a/", "hf://datasets/x"])
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(SettingsError, match="expected a prefix such as"):
        AllowedUris([prefix])


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://127.0.0.1:9000/a",
        "http://[::1]/a",
        "http://10.0.0.5/a",
        "http://[::ffff:10.0.0.5]/a",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "https:///a",
    ],
)
def test_redirects_that_are_not_followed(url: str) -> None:
    with pytest.raises(FetchError, match="which is not read here"):
        ALLOWED.check_redirect(url)


def test_redirects_that_are() -> None:
    assert ALLOWED.check_redirect("http://10.0.0.5:9000/open/b.wav")
    assert not ALLOWED.check_redirect("https://1.1.1.1/a.mp3")


def test_a_name_for_a_private_address_is_not_resolved() -> None:
    async def resolve() -> None:
        await public_resolver().resolve("localhost", 80)

    with pytest.raises(FetchError, match="no public address"):
        asyncio.run(resolve())
