"""Bodies that are packed: unpacked within the bounds, and refused where they are damaged or of an unknown coding."""

from __future__ import annotations

import functools
import gzip
import json
import zlib

import brotli
import pytest

from tests.apps import App, refusal
from tests.unit.web.sent import DATA, FILE, INPUTS, JSON, app_of, classify, form


def packed(data: bytes, coding: str) -> bytes:
    packers = {
        "gzip": gzip.compress,
        "x-gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": functools.partial(brotli.compress, quality=1),
    }
    return packers[coding.strip().lower()](data)


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "deflate", "br", " gzip "])
def test_a_packed_body_is_unpacked(app: App, coding: str) -> None:
    headers = {"content-encoding": coding}
    assert classify(app, content=packed(DATA, coding), headers=headers)[0] == DATA
    body = json.dumps({"inputs": INPUTS}).encode()
    assert classify(app, content=packed(body, coding), headers={**headers, **JSON})[0] == DATA
    whole = form(FILE)
    assert (
        classify(app, content=packed(whole["content"], coding), headers={**headers, **whole["headers"]})[0] == b"RIFF"
    )
    for wrong in (packed(DATA, coding)[:-4], DATA):
        answer = app.ask("POST", "/models/genre", content=wrong, headers=headers)
        assert refusal(answer) == (400, "malformed")
        assert "as its Content-Encoding says" in answer.json()["error"]


def test_what_follows_a_packed_body_is_refused(app: App) -> None:
    whole = gzip.compress(DATA)
    for fine in (whole + bytes(9), gzip.compress(DATA[:100]) + bytes(3) + gzip.compress(DATA[100:])):
        assert classify(app, content=fine, headers={"content-encoding": "gzip"})[0] == DATA
    for behind, says in ((b"junk", "follows its end"), (b"\x1f", "ends early"), (b"\x1fx", "follows its end")):
        answer = app.ask("POST", "/models/genre", content=whole + behind, headers={"content-encoding": "gzip"})
        assert refusal(answer) == (400, "malformed")
        assert says in answer.json()["error"]


@pytest.mark.parametrize("coding", ["", "identity", "identity, identity"])
def test_what_is_no_coding_changes_nothing(app: App, coding: str) -> None:
    assert classify(app, content=DATA, headers={"content-encoding": coding})[0] == DATA


@pytest.mark.parametrize("coding", ["zstd", "compress", "gzip, gzip", "utf-8", "\xe9"])
def test_an_unknown_coding_is_refused_with_those_that_are_known(app: App, coding: str) -> None:
    answer = app.ask("POST", "/models/genre", content=DATA, headers=[(b"content-encoding", coding.encode("latin-1"))])
    assert refusal(answer) == (415, "unknown_coding")
    assert answer.headers["accept-encoding"] == "gzip, deflate, br"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
@pytest.mark.parametrize("kind", ["audio/wav", "application/json", "multipart/form-data; boundary=x"])
def test_a_bomb_is_refused_before_it_is_held(coding: str, kind: str) -> None:
    app = app_of(max_body_bytes=100_000, max_buffered_bytes=200_000)
    content = b"--x\r\n" + FILE.encode() + bytes(8 * 2**20) if "x" in kind else bytes(8 * 2**20)
    bomb = packed(content, coding)
    assert len(bomb) < 40_000
    answer = app.ask("POST", "/models/genre", content=bomb, headers={"content-encoding": coding, "content-type": kind})
    assert refusal(answer) == (413, "body_too_large")
