"""Audio as base64 in JSON: every way to write it is read, long bodies piece by piece, and the rest is refused."""

from __future__ import annotations

import base64
import json

import pytest

from tests.apps import App, refusal
from tests.unit.web.sent import DATA, INPUTS, JSON, app_of, classify


def lines(text: str, width: int, end: str) -> str:
    return end.join(text[start : start + width] for start in range(0, len(text), width))


@pytest.mark.parametrize(
    "inputs",
    [
        INPUTS,
        lines(INPUTS, 76, "\n"),
        lines(INPUTS, 64, "\r\n") + "\n",
        lines(INPUTS, 5, " \t"),
        INPUTS.rstrip("="),
        base64.urlsafe_b64encode(DATA).decode(),
        base64.urlsafe_b64encode(DATA).decode().rstrip("="),
        f"data:audio/wav;base64,{INPUTS}",
        f"DATA:audio/wav;codecs=1;BASE64,{lines(INPUTS, 76, chr(10))}",
        f" data:;base64,{INPUTS}",
    ],
)
@pytest.mark.parametrize("padding", [0, 100_000], ids=["short", "long"])
def test_base64_is_read_however_it_is_written(inputs: str, padding: int) -> None:
    """Long bodies are read piece by piece, with their escapes as they stand."""
    app = app_of()
    data, inputs = (DATA, inputs) if not padding else (DATA, inputs + " " * padding)
    body = json.dumps({"inputs": inputs}).replace("/", "\\/").replace("+", "\\u002b").encode()
    assert classify(app, content=body, headers=JSON)[0] == data


@pytest.mark.parametrize("size", [786_431, 786_432, 786_433, 3_000_001])
def test_long_base64_is_read_whole_wherever_it_is_cut(size: int) -> None:
    data = (DATA * (size // len(DATA) + 1))[:size]
    text = lines(base64.b64encode(data).decode(), 77, "\n")
    body = json.dumps({"parameters": {"top_k": 2}, "inputs": text, "options": {"a": "b"}}).encode()
    assert classify(app_of(), content=body, headers=JSON) == (data, "softmax", None, 2)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ("data:audio/wav,RIFF", "got a data URL in `inputs` that is not base64"),
        ("data:audio/wav;base64", "got a data URL in `inputs` that is not base64"),
        ("a" * 100_001, "got `inputs` that are not base64"),
        ("!" * 100_000, "got `inputs` that are not base64"),
        ("=" + "a" * 99_999, "got `inputs` that are not base64"),
    ],
)
def test_inputs_that_are_not_base64(inputs: str, says: str) -> None:
    answer = app_of().ask("POST", "/models/genre", json={"inputs": inputs})
    assert (refusal(answer), answer.json()["error"]) == ((400, "bad_base64"), says)


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": "UklGRg==", "options": {"a": [' + b"0," * 50_000 + b"0]}}",
        b'{"inputs": "UklGRg==", "options": {"a": "' + b"x" * 99_999 + b'"}}',
        b'{"inputs": "' + b"a" * 99_999 + b'", "options": {' + b'"a":{},' * 20_000 + b'"b":{}}}',
        b'{"inputs": "' + b'\\"' * 50_000 + b'"}',
        b'{"inputs": "' + b"\\" * 99_999 + b'"}',
        b'{"inputs": "' + b"a" * 99_999,
        b"[" * 99_999,
    ],
)
def test_json_may_only_be_long_where_it_has_audio(body: bytes) -> None:
    """What is around it is parsed, and that takes ten times and more of its bytes."""
    assert refusal(app_of().ask("POST", "/models/genre", content=body, headers=JSON)) == (400, "malformed")


def test_a_list_may_only_be_long_where_it_has_strings() -> None:
    app = App(max_bulk_uris=100)
    for body in (b'{"uris": [' + b"0," * 99_999 + b"0]}", b'{"uris": [' + b'"",' * 99_999 + b'""]}'):
        assert refusal(app.ask("POST", "/v1/bulk", content=body, headers=JSON)) == (400, "malformed")
    uris = ['s3://a/\\"b' * 9] * 100
    answer = app.ask("POST", "/v1/bulk", content=json.dumps({"uris": uris}, indent=8), headers=JSON)
    assert len(answer.text.splitlines()) == 100


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "text/json", "Application/JSON"]
)
def test_json_is_known_by_its_first_byte_where_the_type_says_nothing(app: App, kind: str) -> None:
    body = b'\n {"inputs": "UklGRg==", "parameters": {"top_k": 1}}'
    assert classify(app, content=body, headers={"content-type": kind} if kind else {})[0] == b"RIFF"


def test_json_of_windows_has_a_byte_order_mark(app: App) -> None:
    assert classify(app, content=b'\xef\xbb\xbf{"inputs": "UklGRg=="}', headers=JSON)[0] == b"RIFF"


@pytest.mark.parametrize("body", [b"RIFF....WAVE", b"ID3\3", b"fLaC", b"\xff\xfb\x90", b"OggS"])
def test_audio_that_calls_itself_json_is_told_so(app: App, body: bytes) -> None:
    answer = app.ask("POST", "/models/genre", content=body, headers=JSON)
    assert refusal(answer) == (400, "malformed")
    assert "audio is sent as the body with an audio content type" in answer.json()["error"]
