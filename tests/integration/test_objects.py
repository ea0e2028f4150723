"""Reading objects over HTTP and from disk: retried while that helps, bounded, and only the listed version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.faulty_http import Answer, FaultyServer, serving
from tonearm.errors import FetchError, SourceError
from tonearm.settings import FetchSettings
from tonearm.sources.listing import list_tracks, make_ref
from tonearm.sources.local import local_ref
from tonearm.sources.reader import ObjectReader

DATA = bytes(range(256)) * 8000


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with serving() as server:
        yield server


def reader(**values: float) -> ObjectReader:
    return ObjectReader(FetchSettings(**{"num_attempts": 4, "backoff_s": 0.01, **values}))  # type: ignore[arg-type]


def code_of(url: str, **values: float) -> str:
    with pytest.raises(FetchError) as caught:
        reader(**values).read(make_ref(url))
    assert "\n" not in caught.value.message
    return caught.value.code


def gets(server: FaultyServer) -> int:
    return sum(method == "GET" for method, _ in server.requests)


@pytest.mark.parametrize(
    "faults",
    [
        [Answer(503)],
        [Answer(429), Answer(500), Answer(502)],
        [Answer(200, DATA, cut=1000)],
        [Answer(200, DATA, cut=0), Answer(503)],
    ],
)
def test_faults_that_pass_are_tried_again(server: FaultyServer, faults: list[Answer]) -> None:
    server.answers["/a.mp3"] = [*faults, Answer(200, DATA)]
    assert reader().read(make_ref(f"{server.url}/a.mp3")) == DATA
    assert gets(server) == len(faults) + 1


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not_found"), (410, "not_found"), (401, "access_denied"), (403, "access_denied")]
)
def test_faults_that_stay_are_not(server: FaultyServer, status: int, code: str) -> None:
    server.answers["/a.mp3"] = [Answer(status)]
    assert code_of(f"{server.url}/a.mp3") == code
    assert gets(server) == 1


def test_attempts_end(server: FaultyServer) -> None:
    server.answers["/a.mp3"] = [Answer(503)]
    assert code_of(f"{server.url}/a.mp3", num_attempts=3) == "fetch_failed"
    assert gets(server) == 3
    assert code_of("http://127.0.0.1:9/a.mp3", num_attempts=2) == "fetch_failed"


def test_a_server_that_hangs_costs_the_timeout(server: FaultyServer) -> None:
    server.answers["/a.mp3"] = [Answer(200, DATA, hang=True)]
    assert code_of(f"{server.url}/a.mp3", timeout_s=0.5) == "fetch_timeout"


def test_more_bytes_than_allowed(server: FaultyServer) -> None:
    server.answers["/a.mp3"] = [Answer(200, DATA)]
    assert code_of(f"{server.url}/a.mp3", max_bytes=1000) == "too_large"


def test_a_listed_file_over_http(server: FaultyServer) -> None:
    headers = (("ETag", '"v1"'), ("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT"))
    server.answers["/a%20b.mp3"] = [Answer(200, DATA, headers)]
    (ref,) = list_tracks([f"{server.url}/a b.mp3"])
    assert (ref.size_bytes, ref.etag, ref.modified is not None) == (len(DATA), "v1", True)
    assert reader().read(ref) == DATA
    server.answers["/a%20b.mp3"] = [Answer(200, DATA + b"1", headers)]
    with pytest.raises(FetchError) as caught:
        reader().read(ref)
    assert caught.value.code == "changed"
    with pytest.raises(SourceError, match="answers HTTP 404"):
        list(list_tracks([f"{server.url}/nothing.mp3"]))


def test_local_files(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(DATA)
    ref = local_ref(str(path))
    assert reader().read(ref) == DATA
    os.utime(path, ns=(1, 1))
    changes = [(lambda: None, "changed"), (lambda: path.write_bytes(b"1"), "changed"), (path.unlink, "not_found")]
    for change, code in changes:
        change()
        with pytest.raises(FetchError) as caught:
            reader().read(ref)
        assert caught.value.code == code
    os.mkfifo(path)
    assert code_of(str(path)) == "not_found"
    assert code_of(str(tmp_path)) in ("not_found", "fetch_failed")
