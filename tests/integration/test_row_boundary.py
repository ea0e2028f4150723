"""Whatever a URI or a web server does is a track's bytes or a track's error, and within its time."""

from __future__ import annotations

import gzip
import random
import socket
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import brotli
import hypothesis
import pytest

from tests.servers.faulty_http import Answer, FaultyServer, serving
from tests.uris import uris
from tonearm.distributed.tagging import blocks
from tonearm.errors import FetchError, SourceError
from tonearm.settings import FetchSettings
from tonearm.sources.listing import TrackRef, list_tracks, make_ref
from tonearm.sources.reader import ObjectReader
from tonearm.storage.allowed_uris import AllowedUris
from tonearm.storage.store_errors import http_failure

DATA = bytes(range(256)) * 100
# What a read may take longer on a machine that does something else as well.
TIMEOUT_S, BUSY_S = 5.0, 60.0
SETTINGS = FetchSettings(timeout_s=TIMEOUT_S, num_attempts=2, backoff_s=0.0, max_bytes=10**6)


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Import what reads the web: on a busy machine that alone may take a read's time."""
    import aiohttp
    from fsspec.implementations import http

    assert aiohttp and http


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with serving() as server:
        yield server


def outcome(ref: TrackRef, reader: ObjectReader | None = None) -> bytes | FetchError:
    """Read a track as a run does, and make sure that what comes of it becomes a row, in time."""
    started = time.monotonic()
    try:
        found: bytes | FetchError = (reader or ObjectReader(SETTINGS)).read(ref)
    except FetchError as error:
        found = error
        assert "\n" not in error.message
        assert blocks.encode_tracks([(make_ref("s3://b/k"), error)]).num_rows == 1
    assert time.monotonic() - started < TIMEOUT_S + BUSY_S
    return found


def code_of(url: str) -> str:
    found = outcome(make_ref(url))
    assert isinstance(found, FetchError), found
    return found.code


def listed(url: str) -> TrackRef:
    (ref,) = list_tracks([url])
    return ref


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "http://[::1/x.mp3",
            "http://]/",
            "http://[v1.a]/x",
            "http://h:abc/x",
            "http://127.0.0.1:99999/x",
            "http:///x",
        ),
        *(
            "http://",
            "http://a..b/x",
            "http://.a/x",
            "http://" + "a" * 70 + ".example/x",
            "http://\u2100/x",
            "http://ho st/x",
        ),
        *(
            "http://\x00/x",
            "http://user:pw@/x",
            "/tmp/a\x00b",
            "file:///tmp/a%00b",
            "/tmp/" + "a" * 5000,
            "http://127.1/x",
        ),
        *("hf://datasets/x", "hf://", "x://y", "zip://x::/tmp/y.zip", "local:///etc/hostname", "git://x", "data://x"),
        *(
            "/dev/zero",
            "/tmp",
            "/dev/null",
            "",
            ".",
            "~",
            "http://h/\udcff",
            "s3://b/\udcff",
            "file:///\ud800",
            "sftp://h/x",
        ),
    ],
)
def test_a_uri_without_an_object_is_not_found(uri: str) -> None:
    assert code_of(uri) == "not_found"


def test_a_folder_leaves_no_descriptor_open() -> None:
    for _ in range(2000):
        assert code_of("/tmp") == "not_found"


@pytest.mark.parametrize(
    "target",
    [
        *(
            "http://a..b/",
            "http://[::1/x",
            "http://[",
            "http://h:99999/",
            "http://h:x/",
            "ftp://h/x",
            "file:///etc/passwd",
        ),
        *(
            "http:///x",
            "javascript:0",
            "http://ho st/",
            "http://\u2100/",
            "//",
            "http://\xff/",
            "s3://b/k",
            "http://127.1/",
        ),
    ],
)
@pytest.mark.parametrize("prefixes", [None, ["http://127.0.0.1/"]])
def test_a_malformed_redirect_is_an_error_row(server: FaultyServer, target: str, prefixes: list[str] | None) -> None:
    line = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + target.encode("utf-8") + b"\r\n\r\n"
    server.answers["/red.mp3"] = [Answer(raw=line)]
    found = outcome(
        make_ref(f"{server.url}/red.mp3"), ObjectReader(SETTINGS, AllowedUris(prefixes) if prefixes else None)
    )
    assert isinstance(found, FetchError)
    assert found.code in ("fetch_failed", "not_found", "access_denied")


def test_redirects_are_followed_and_loops_end(server: FaultyServer) -> None:
    server.answers["/real/a%20b.mp3?sig=%2Fx%3D"] = [Answer(200, DATA)]
    server.answers["/one.mp3"] = [Answer(302, b"", (("Location", "/two.mp3"),))]
    server.answers["/two.mp3"] = [Answer(307, b"", (("Location", f"{server.url}/real/a b.mp3?sig=%2Fx%3D#end"),))]
    server.answers["/loop.mp3"] = [Answer(301, b"", (("Location", "/loop.mp3"),))]
    assert outcome(make_ref(f"{server.url}/one.mp3")) == DATA
    assert code_of(f"{server.url}/loop.mp3") == "fetch_failed"


def packed(data: bytes, coding: str) -> bytes:
    for name in coding.lower().split(","):
        data = gzip.compress(data) if "gzip" in name else zlib.compress(data) if name.strip() == "deflate" else data
    return data


CODINGS = [
    "gzip",
    "x-gzip",
    "deflate",
    "GZIP",
    "gzip, gzip",
    "deflate, gzip",
    "identity",
    "none",
    "utf-8",
    "",
    "gzip,identity",
]


@pytest.mark.parametrize("coding", CODINGS)
def test_a_packed_answer_is_unpacked(server: FaultyServer, coding: str) -> None:
    url = f"{server.url}/packed.wav"
    server.answers["/packed.wav"] = [Answer(200, packed(DATA, coding), (("Content-Encoding", coding), ("ETag", '"1"')))]
    ref = listed(url)
    assert (ref.etag, ref.size_bytes) in (("1", None), ("1", len(DATA)))
    assert outcome(ref) == outcome(make_ref(url)) == outcome(make_ref(url, len(DATA))) == DATA


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip"])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_packed_answer_that_ends_early_fails(server: FaultyServer, coding: str, is_told: bool) -> None:
    whole = brotli.compress(DATA) if coding == "br" else packed(DATA, coding)
    length = (("Content-Length", str(len(whole) - 20)),) if is_told else (("Connection", "close"),)
    server.answers["/early.wav"] = [Answer(200, whole[:-20], (("Content-Encoding", coding), *length))]
    assert code_of(f"{server.url}/early.wav") == "fetch_failed"
    server.answers["/whole.wav"] = [Answer(200, whole, (("Content-Encoding", coding),))]
    assert outcome(make_ref(f"{server.url}/whole.wav")) == DATA


def test_codings_in_two_lines_are_both_undone(server: FaultyServer) -> None:
    lines = (("Content-Encoding", "gzip"), ("Content-Encoding", "gzip"))
    server.answers["/twice.wav"] = [Answer(200, packed(DATA, "gzip, gzip"), lines)]
    assert outcome(make_ref(f"{server.url}/twice.wav")) == DATA
    # Nor does a listing take the packed length for the object's, whichever line says that it is packed.
    lines = (("Content-Encoding", "identity"), ("Content-Encoding", "gzip"))
    server.answers["/twice.wav"] = [Answer(200, packed(DATA, "gzip"), lines)]
    (ref,) = list_tracks([f"{server.url}/twice.wav"])
    assert ref.size_bytes is None and outcome(ref) == DATA


def test_what_a_server_says_cannot_steer_a_terminal(server: FaultyServer) -> None:
    said = http_failure(404, "\x1b[2J\x1b[31mHELLO" + "A" * 6000).reason
    assert said.isprintable() and len(said) < 300


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "gzip, gzip", "deflate, gzip"])
def test_a_bomb_is_too_large(server: FaultyServer, coding: str) -> None:
    server.answers["/bomb.wav"] = [Answer(200, packed(bytes(20 * 2**20), coding), (("Content-Encoding", coding),))]
    assert code_of(f"{server.url}/bomb.wav") == "too_large"


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "gzip, gzip", "br", "compress", "gzip, br"])
def test_what_is_not_packed_as_it_says_fails(server: FaultyServer, coding: str) -> None:
    server.answers["/odd.wav"] = [Answer(200, DATA, (("Content-Encoding", coding),))]
    assert code_of(f"{server.url}/odd.wav") == "fetch_failed"
    server.answers["/odd.wav"] = [Answer(200, packed(DATA, "gzip")[:-100], (("Content-Encoding", "x-gzip"),))]
    assert code_of(f"{server.url}/odd.wav") == "fetch_failed"


@pytest.mark.parametrize(
    "head",
    [
        *(Answer(status) for status in (400, 403, 404, 405, 500, 501, 503)),
        *(Answer(200, headers=(("Content-Length", length),)) for length in ("0", "2", "999999999")),
        Answer(200, DATA, (("ETag", '"of head"'), ("Last-Modified", "Mon, 01 Jan 2001 00:00:00 GMT"))),
        Answer(302, headers=(("Location", "http://[::1/"),)),
        Answer(raw=b""),
        Answer(raw=b"nonsense\r\n\r\n"),
    ],
)
def test_get_counts_where_head_says_otherwise(server: FaultyServer, head: Answer) -> None:
    server.answers["/a.mp3"] = [Answer(200, DATA, (("ETag", '"of get"'),), head=head)]
    ref = listed(f"{server.url}/a.mp3")
    assert (ref.size_bytes, ref.etag) == (len(DATA), "of get")
    assert outcome(ref) == DATA


DATES = {
    "Wed, 21 Oct 2026 07:28:00 GMT": True,
    "Mon, 01 Jan 2024 00:00:00 -0000": True,
    "Mon, 01 Jan 2024 00:00:00": True,
    **dict.fromkeys(
        ["0", "-1", "never", "2/29/24 11:29 AM", "Mon, 13 Nov 114322 14:12:21 GMT", "", "Mon, 99 Foo 2024"], False
    ),
    **dict.fromkeys(["Fri, 31 Dec 9999 23:59:59 -0100", "\xff", ", , ,", "x" * 4000], False),
}


@pytest.mark.parametrize("date", DATES, ids=ascii)
def test_malformed_dates_are_unknown(server: FaultyServer, date: str) -> None:
    server.answers["/a.mp3"] = [Answer(200, DATA, (("Last-Modified", date),))]
    ref = listed(f"{server.url}/a.mp3")
    assert (ref.modified is not None) is DATES[date]
    assert outcome(ref) == DATA


@pytest.mark.parametrize("status", [201, 202, 205, 206, 300, 302, 304, 306, 399, 600, 999])
def test_a_status_without_the_object_is_an_error_row(server: FaultyServer, status: int) -> None:
    server.answers["/a.mp3"] = [Answer(status, DATA)]
    assert code_of(f"{server.url}/a.mp3") == "fetch_failed"


def test_a_server_that_fails_now_is_listed_and_the_row_says_so(server: FaultyServer) -> None:
    for status, code in ((503, "fetch_failed"), (429, "fetch_failed"), (403, "access_denied")):
        server.answers["/a.mp3"] = [Answer(status)]
        found = outcome(listed(f"{server.url}/a.mp3"))
        assert isinstance(found, FetchError) and found.code == code
    server.answers["/a.mp3"] = [Answer(410)]
    with pytest.raises(SourceError, match="answers HTTP 410"):
        listed(f"{server.url}/a.mp3")


def generated(choice: random.Random) -> Answer:
    """Return an answer as no one would write it on purpose, and as servers write it all the same."""

    def maybe(share: float, *values: bytes) -> list[bytes]:
        return [choice.choice(values)] if choice.random() < share else []

    body = choice.choice([DATA, b"", DATA[:1], choice.randbytes(3000), bytes(2 * 10**6), packed(DATA, "gzip")])
    coding = choice.choice(["gzip", "deflate", "br", "zstd", "x-gzip", "gzip, gzip", "utf-8", "\xff", "x" * 100])
    if choice.random() < 0.3:
        body = packed(body, coding)
    length = str(len(body)).encode()
    lines = [
        b"HTTP/%s %s %s"
        % (
            choice.choice([b"1.1", b"1.1", b"1.1", b"1.0", b"2", b"9.9", b""]),
            choice.choice(
                [b"200", b"200", b"200", b"200", b"206", b"302", b"301", b"404", b"503", b"999", b"99", b"-1", b"2x"]
            ),
            choice.choice([b"OK", b"", b"\xff\x00", b"x" * 9000]),
        ),
        *maybe(
            0.8,
            *(b"Content-Length: " + value for value in (length, length, length, b"0", b"9", b"-1", b"1e3", b"9" * 30)),
        ),
        *maybe(0.2, b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: \xff"),
        *maybe(0.4, b"Content-Encoding: " + coding.encode("latin-1")),
        *maybe(
            0.4,
            *(b"Location: " + value for value in (b"/", b"http://[", b"\xff", b"//", b"http://a..b/", b"?", b"#", b"")),
        ),
        *maybe(0.3, *(b"ETag: " + value for value in (b'"1"', b"W/1", b"\xff", b'"', b""))),
        *maybe(0.3, *(b"Last-Modified: " + value for value in (b"0", b"\xff", b"Mon, 13 Nov 114322 14:12:21 GMT"))),
        *maybe(0.1, b"nonsense", b": x", b"a" * 9000 + b": x", b"X: " + b"a" * 9000, b"X: \x00", b" folded"),
    ]
    answer = b"\r\n".join(lines) + b"\r\n\r\n" + body
    return Answer(raw=answer[: choice.randrange(len(answer))] if choice.random() < 0.2 else answer)


@pytest.mark.slow
def test_whatever_a_server_answers_is_a_row(server: FaultyServer) -> None:
    """A thousand odd answers of an HTTP server: each ends as bytes or as the error of a row."""
    choice, seen = random.Random(15), Counter[str]()
    started = time.monotonic()
    for number in range(1000):
        path = f"/{number}.mp3"
        answer = generated(choice)
        server.answers[path] = [answer]
        url = f"{server.url}{path}"
        found = outcome(make_ref(url, choice.choice([None, len(DATA)]), choice.choice([None, "1"])))
        seen["ok" if isinstance(found, bytes) else found.code] += 1
        try:
            ref = listed(url)
        except SourceError:
            continue
        assert blocks.encode_tracks([(ref, FetchError("x", code="changed"))]).num_rows == 1
    # What is generated reaches every way that a read can end.
    assert set(seen) - {"fetch_timeout"} == {"ok", "fetch_failed", "changed", "too_large", "not_found"}
    assert time.monotonic() - started < 300


@pytest.fixture(scope="module")
def no_stores() -> Iterator[None]:
    """Have every store and name server refuse at once: how long those take is not what is tested."""
    resolve = socket.getaddrinfo

    def refuse(host: Any, *arguments: Any, **named: Any) -> Any:
        if host == "127.0.0.1":
            return resolve(host, *arguments, **named)
        str(host).encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "x")
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        yield


@pytest.mark.slow
@hypothesis.settings(max_examples=10_000)
@hypothesis.given(uris())
def test_whatever_a_uri_is_it_is_a_row(no_stores: None, uri: str) -> None:
    """Ten thousand odd addresses: reading each gives bytes or the error of a row."""
    assert isinstance(outcome(make_ref(uri)), bytes | FetchError)
