"""Which URIs are read for a stranger, which redirects are followed, and to which addresses."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from aiohttp.resolver import ThreadedResolver

from tonearm.errors import FetchError, RequestError, SettingsError
from tonearm.storage.allowed_uris import AllowedUris, is_public, public_resolver

ALLOWED = AllowedUris(["s3://music/flac/", "https://cdn.example.org/a/", "http://10.0.0.5:9000/open", "gs://all"])


@pytest.mark.parametrize(
    "uri",
    [
        "s3://music/flac/a.flac",
        "s3a://music/flac/a.flac",
        "s3://music/flac/what? #1 100%.mp3",
        "https://cdn.example.org/a/b/c.mp3?signature=x/../y",
        "https://CDN.example.org:443/a/b.mp3",
        "https://cdn.example.org:0443/a/b.mp3",
        "https://cdn.example.org:/a/b.mp3",
        "http://10.0.0.5:9000/open/a.wav",
        "gs://all/of/it.ogg",
        "s3://music/flac/a..b.flac",
        "s3://music/flac/...",
        "s3://music/flac/",
        "S3N://music/flac/Zoë/ü.flac",
        "https://cdn.example.org/a/b.mp3#t=1?x#../y",
        "https://cdn.example.org/a/b.mp3?x=1#../y",
        "http://10.0.0.5:9000/open",
        "http://10.0.0.5:9000/open/",
        "gs://all",
        "gs://all/",
    ],
)
def test_what_is_under_a_prefix_is_allowed(uri: str) -> None:
    assert ALLOWED.covers(uri)
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
        "s3://music/flac",
        "s3://music/a.flac",
        "s3://music",
        "s3://Music/flac/a.flac",
        "s3://music/Flac/a.flac",
        "s3://musi/flac/a.flac",
        "s3://music:443/flac/a.flac",
        "gs://music/flac/a.flac",
        "https://cdn.example.org/A/b.mp3",
        "https://cdn.example.org/0/b.mp3",
        "https://cdn.example.org/b\\c.mp3",
        "https://cdn.example.org/a/b\\c.mp3",
        "https://cdn.example.org/a/b\tc.mp3",
        "https://cdn.example.org/a/b\u202ec.mp3",
        "https://cdn.example.org#/a/b.mp3",
        "https://cdn.example.org:80/a/b.mp3",
        "https://cdn.example.org:443:443/a/b.mp3",
        "https://cdn.example.org",
        "http://10.0.0.5:9000/ope",
        "http://10.0.0.5:9000/",
        "http://10.0.0.5:9000:80/open/a.wav",
        "http://10.0.0.5:9000:/open/a.wav",
        "http://10.0.0.5:09000:9000/open/a.wav",
        "http://10.0.0.5:900000/open/a.wav",
        "http://10.0.0.5:\u0669000/open/a.wav",
        "http://[10.0.0.5]:9000/open/a.wav",
        "http://[x/a",
        "http://[::1/x.mp3",
        "http://]/",
        "https://ex\u2100mple.org/a",
        "https://cdn.example.org:abc/a/b.mp3",
    ],
)
def test_what_no_prefix_covers_is_refused(uri: str) -> None:
    with pytest.raises(RequestError, match="not under a prefix") as caught:
        ALLOWED.check(uri)
    assert (caught.value.code, caught.value.http_status) == ("uri_not_allowed", 403)


def escaped(text: str, times: int) -> str:
    """Return ``text`` with every character as ``%`` and two digits, and the percent signs ``times`` - 1 times more."""
    if not times:
        return text
    return "".join(f"%{ord(letter):02x}" for letter in text).replace("%", "%" + "25" * (times - 1))


@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("part", [".", ".."])
@pytest.mark.parametrize("around", ["{}/a.mp3", "b/{}/a.mp3", "b/{}", "b%5c{}%5ca.mp3", "b%2f{}%2Fa.mp3", "{}?x=1"])
def test_dots_are_refused_however_a_server_may_decode_them(around: str, part: str, times: int) -> None:
    assert not ALLOWED.covers("https://cdn.example.org/a/" + around.format(escaped(part, times)))
    assert ALLOWED.covers("https://cdn.example.org/a/" + around.format(escaped("b", times)))


def test_dots_are_refused_however_often_they_are_escaped() -> None:
    assert not any(ALLOWED.covers(f"s3://music/flac/{escaped('..', times)}/a.flac") for times in range(40))


@pytest.mark.parametrize("times", [7, 8, 40, 1000])
def test_a_name_that_cannot_be_decoded_to_its_end_is_refused_at_once(times: int) -> None:
    started = time.thread_time()
    assert ALLOWED.covers(f"s3://music/flac/{escaped('b', times)}.flac") is (times < 8)
    assert time.thread_time() - started < 0.1


@pytest.mark.parametrize(
    "part", ["..;", "..;a=b", ".;/", "%2e%2e;x", "..%3bx", "%c0%ae%c0%ae", "%C0%AE.", "%u002e%u002e"]
)
def test_dots_that_only_some_servers_see_are_refused(part: str) -> None:
    assert not ALLOWED.covers(f"https://cdn.example.org/a/{part}/b.mp3")


@pytest.mark.parametrize("nul", ["%00", "%2500", "\x00"])
def test_what_would_end_a_name_early_is_refused(nul: str) -> None:
    assert not ALLOWED.covers(f"s3://music/flac/a.flac{nul}.mp3")
    assert not ALLOWED.covers(f"s3://music/flac/a.flac{nul}")


def test_a_uri_has_4096_characters_at_most() -> None:
    begins = "s3://music/flac/"
    assert ALLOWED.covers(begins + "a" * (4096 - len(begins)))
    assert not ALLOWED.covers(begins + "a" * (4097 - len(begins)))


def test_a_refusal_shows_the_beginning_of_the_uri() -> None:
    begins = "s3://secret/"
    with pytest.raises(RequestError) as caught:
        ALLOWED.check(begins + "a" * 300)
    assert caught.value.message == f"{begins}{'a' * (200 - len(begins))} is not under a prefix that is read here"
    with pytest.raises(RequestError) as caught:
        ALLOWED.check("https://user:pass@evil.org/a?token=b")
    assert caught.value.message == "https://evil.org/a is not under a prefix that is read here"


@pytest.mark.parametrize(
    ("prefix", "uri"),
    [
        ("https://host:443/a/", "https://host/a/1"),
        ("https://host/a/", "https://host:443/a/1"),
        ("HTTPS://HOST/a/", "https://host/a/1"),
        ("http://host:80/a/", "http://host/a/1"),
        ("http://host/a/", "http://host:80/a/1"),
        ("http://host:443/a/", "http://host:443/a/1"),
        ("https://host:80/a/", "https://host:80/a/1"),
        ("https://host", "https://host/any"),
        ("https://host/a/?x#y", "https://host/a/1?z"),
        ("s3://bucket:80/a", "s3://bucket:80/a/1"),
        ("s3://bucket/a?b#c/", "s3://bucket/a?b#c/1"),
        ("abfss://box/a", "az://box/a/1"),
    ],
)
def test_two_ways_to_write_one_place_are_alike(prefix: str, uri: str) -> None:
    assert AllowedUris([prefix]).covers(uri)


@pytest.mark.parametrize(
    ("prefix", "uri"),
    [
        ("http://host:443/a/", "http://host/a/1"),
        ("http://host/a/", "http://host:443/a/1"),
        ("https://host:80/a/", "https://host/a/1"),
        ("https://host/a/", "http://host/a/1"),
        ("http://host/a/", "https://host/a/1"),
        ("s3://bucket:80/a", "s3://bucket/a/1"),
        ("s3://bucket/a?b/", "s3://bucket/a/1"),
        ("s3://b/a/", "s3://a/a/1"),
        ("s3://b/a/", "s3://c/a/1"),
        ("https://me:pass@host/a/", "https://host/a/1"),
        ("https://me:pass@host/a/", "https://me:pass@host/a/1"),  # no password of a client's is ever sent
    ],
)
def test_two_places_are_told_apart(prefix: str, uri: str) -> None:
    assert not AllowedUris([prefix]).covers(uri)


def test_each_prefix_counts_for_itself() -> None:
    both = AllowedUris(["s3://one/a/", "s3://two/b/"])
    assert [both.covers(f"s3://{rest}/1") for rest in ("one/a", "two/b", "one/b", "two/a")] == [
        True,
        True,
        False,
        False,
    ]


def test_nothing_is_allowed_by_default() -> None:
    assert not AllowedUris([]).covers("s3://music/a.flac")


@pytest.mark.parametrize(
    ("prefix", "shown"),
    [
        *((same, same) for same in ("/music", "file:///music", "file://host/music", "music", "s3://", "s3:///a", "")),
        *((same, same) for same in ("hf://datasets/x", "ftp://host/a", "https:///a")),
        ("https://host?a/", "https://host"),
        ("https://host#a/", "https://host"),
    ],
)
def test_prefixes_that_are_none(prefix: str, shown: str) -> None:
    with pytest.raises(SettingsError) as caught:
        AllowedUris(["s3://music/", prefix])
    assert caught.value.message == (
        f"serve.allow_uris: got '{shown}', expected a prefix such as s3://bucket/folder/ or https://host/folder/; "
        "local files are never read for a client"
    )


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
        "ftp://1.1.1.1/a",
        "s3://secret/a",
        "gs://alls/a",
        "http://0.0.0.0/a",
        "http://10.0.0.5:9000/opened",
        "http://10.0.0.5:9000/open/../a",
        "//cdn.example.org/a/b.mp3",
        "",
        "http://[x/a",
        "http://[::1/x.mp3",
        "http://1.1.1.1:x/a",
        "http://127.1/a",
        "http://2130706433/a",
        "http://0x7f.0.0.1/a",
        "http://[64:ff9b::a00:5]/a",
        "http://[2002:a00:5::]/a",
        "http://[::10.0.0.5]/a",
        "http://[::ffff:0:10.0.0.5]/a",
        "http://224.0.0.1/a",
    ],
)
def test_redirects_that_are_not_followed(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        ALLOWED.check_redirect(url)
    assert caught.value.message == f"redirected to {url}, which is not read here"
    assert (caught.value.code, caught.value.http_status) == ("access_denied", 403)


def test_a_refused_redirect_shows_its_beginning_without_what_may_be_secret() -> None:
    with pytest.raises(FetchError) as caught:
        ALLOWED.check_redirect("ftp://example.org/" + "a" * 300)
    assert caught.value.message == f"redirected to ftp://example.org/{'a' * 182}, which is not read here"
    with pytest.raises(FetchError) as caught:
        ALLOWED.check_redirect("http://user:pass@127.0.0.1/a?token=b")
    assert caught.value.message == "redirected to http://127.0.0.1/a, which is not read here"


@pytest.mark.parametrize("begin", ["http://user:", "https://", "http://10.0.0.5/"])
def test_a_refusal_hides_credentials_before_it_cuts(begin: str) -> None:
    for num_characters in range(150, 260):
        uri = f"{begin}{'pass' * (num_characters // 4)}@127.0.0.1/a?token=hidden"
        with pytest.raises(RequestError) as refused:
            ALLOWED.check(uri)
        with pytest.raises(FetchError) as caught:
            ALLOWED.check_redirect(uri)
        for message in (refused.value.message, caught.value.message):
            assert "hidden" not in message
            assert "pass" not in message or begin == "http://10.0.0.5/"  # in a path it is no password


@pytest.mark.parametrize(
    "url", ["http://10.0.0.5:9000/open/b.wav", "https://cdn.example.org/a/b.mp3?signature=x", "gs://all/a.ogg"]
)
def test_redirects_to_where_the_operator_allows(url: str) -> None:
    assert ALLOWED.check_redirect(url) is True


@pytest.mark.parametrize(
    "url", ["https://1.1.1.1/a.mp3", "http://[2606:4700::1111]/a", "https://example.org/a", "http://localhost/a"]
)
def test_redirects_that_are_followed_only_to_a_public_address(url: str) -> None:
    assert ALLOWED.check_redirect(url) is False


@pytest.mark.parametrize(
    ("address", "is_so"),
    [
        *((address, True) for address in ("1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1")),
        *((address, False) for address in ("10.0.0.5", "::1", "fd00::1", "fe80::1%eth0", "224.0.0.1", "ff02::1")),
        *((address, False) for address in ("64:ff9b::a00:5", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1")),
        *((address, False) for address in ("2002:a00:5::", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "2001:0:1::1")),
        *((address, False) for address in ("::10.0.0.5", "::ffff:10.0.0.5", "::ffff:0:10.0.0.5", "fec0::1")),
        *((address, False) for address in ("2606:4700::5efe:a00:5", "2606:4700::200:5efe:a00:5", "192.88.99.1")),
    ],
)
def test_an_address_is_public_if_every_address_in_it_is(address: str, is_so: bool) -> None:
    assert is_public(address) is is_so


def test_only_public_addresses_of_a_name_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = ["10.0.0.5", "1.1.1.1", "127.0.0.1", "::1", "2606:4700::1111", "fd00::1", "169.254.169.254", "8.8.8.8"]
    asked: list[tuple[object, ...]] = []

    async def resolve(self: ThreadedResolver, *arguments: object) -> list[dict[str, Any]]:
        asked.append(arguments)
        return [{"hostname": "example.org", "host": host, "port": 443} for host in hosts]

    async def run() -> list[Any]:
        resolver = public_resolver()
        await resolver.resolve("example.org")
        return await resolver.resolve("example.org", 443, socket.AF_UNSPEC)

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    found = asyncio.run(run())
    assert found == [
        {"hostname": "example.org", "host": host, "port": 443} for host in ("1.1.1.1", "2606:4700::1111", "8.8.8.8")
    ]
    assert asked == [("example.org", 0, socket.AF_INET), ("example.org", 443, socket.AF_UNSPEC)]


@pytest.mark.parametrize("hosts", [[], ["10.0.0.5"], ["127.0.0.1", "::1"]])
def test_a_name_without_a_public_address_is_refused(monkeypatch: pytest.MonkeyPatch, hosts: list[str]) -> None:
    async def resolve(self: ThreadedResolver, *arguments: object) -> list[dict[str, Any]]:
        return [{"host": host} for host in hosts]

    async def run() -> None:
        await public_resolver().resolve("intranet.example.org", 80)

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    with pytest.raises(FetchError) as caught:
        asyncio.run(run())
    assert caught.value.message == "redirected to intranet.example.org, which has no public address"
    assert (caught.value.code, caught.value.http_status) == ("access_denied", 403)


def test_a_name_for_a_private_address_is_not_resolved() -> None:
    async def resolve() -> None:
        await public_resolver().resolve("localhost", 80)

    with pytest.raises(FetchError, match="no public address"):
        asyncio.run(resolve())
