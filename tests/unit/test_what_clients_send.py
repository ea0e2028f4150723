"""Bodies as clients really send them, HEAD, and what the document says of it all."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import zlib
from typing import Any

import brotli
import pytest

from tests.apps import App, refusal

DATA = bytes(range(256)) * 9
INPUTS = base64.b64encode(DATA).decode()
JSON = {"content-type": "application/json"}


@functools.cache
def app_of(**settings: int) -> App:
    return App(**settings)


@pytest.fixture
def app() -> App:
    made = app_of(max_body_bytes=5000)
    made.engine.calls.clear()
    return made


def classify(app: App, path: str = "/models/genre", **body: Any) -> tuple[Any, ...]:
    """Return what reached the engine, and how many labels were answered."""
    answer = app.ask("POST", path, **body)
    assert answer.status_code == 200, answer.text
    (head, data, function, max_windows), *others = app.engine.calls
    app.engine.calls.clear()
    assert (head, others) == ("genre", [])
    return data, function, max_windows, len(answer.json())


# Forms


def test_a_form_as_curl_and_browsers_send_it(app: App) -> None:
    for name in ("file", "audio", "whatever"):
        assert classify(app, files={name: ("song.mp3", DATA)}) == (DATA, "softmax", None, 5)
    assert app.ask("POST", "/v1/view", files={"file": ("song.mp3", DATA, "audio/mpeg")}).status_code == 200
    assert app.engine.calls == [(DATA,)]


def test_a_form_may_have_parameters_and_more(app: App) -> None:
    fields = {"top_k": "2", "function_to_apply": "none", "max_windows": "7", "model": "whisper", "other": "x" * 3000}
    assert classify(app, files={"file": ("s", DATA)}, data=fields) == (DATA, "none", 7, 2)
    app.ask("POST", "/v1/tag", files={"file": ("s", DATA)}, data=fields)
    assert app.engine.calls == [(DATA, 7)]


def test_a_form_may_have_parameters_as_json(app: App) -> None:
    fields = {"parameters": json.dumps({"top_k": 2, "function_to_apply": "none"})}
    assert classify(app, files={"file": ("s", DATA)}, data=fields) == (DATA, "none", None, 2)
    assert classify(app, files={"file": ("s", DATA)}, data={**fields, "top_k": "2"}) == (DATA, "none", None, 2)


def test_the_first_file_counts(app: App) -> None:
    files = [("none", ("", b"")), ("a", ("a.mp3", DATA)), ("b", ("b.png", b"x" * 4000, "image/png"))]
    assert classify(app, files=files)[0] == DATA


def form(*parts: str, end: str = "--x--\r\n") -> dict[str, Any]:
    content = "".join(f"--x\r\n{part}\r\n" for part in parts) + end
    return {"content": content.encode("latin-1"), "headers": {"content-type": "multipart/form-data; boundary=x"}}


FILE = 'Content-Disposition: form-data; name="f"; filename="a"\r\n\r\nRIFF'
NAMED = "Content-Disposition: form-data; name=\"f\"; filename*=UTF-8''s%C3%B6ng.mp3\r\n\r\nRIFF"
FIELD = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}'


def test_a_name_in_utf_8_is_a_name(app: App) -> None:
    app.ask("POST", "/v1/tag", **form(NAMED))
    assert app.engine.calls == [(b"RIFF", None)]


def test_parts_that_say_little(app: App) -> None:
    assert classify(app, **form("Content-Type: audio/wav\r\n\r\nRIFF"))[0] == b"RIFF"
    assert classify(app, **form(FIELD.format("\xff", "\xff"), FIELD.format("top_k", ""), FILE))[0] == b"RIFF"


@pytest.mark.parametrize(
    ("sent", "expected", "says"),
    [
        (form(FIELD.format("inputs", "RIFF")), (400, "malformed"), "no file (its fields: inputs)"),
        (form(FILE, end=""), (400, "malformed"), "it has no end"),
        (form(FILE, FIELD.format("top_k", "many")), (400, "malformed"), "top_k: Input should be a valid integer"),
        (form(FILE, FIELD.format("top_k", "0")), (400, "malformed"), "top_k: Input should be greater"),
        (form(FILE, FIELD.format("top_k", "\xff")), (400, "malformed"), "not UTF-8"),
        (form(FILE, FIELD.format("top_k", "1" * 1025)), (400, "malformed"), "more than 1,024 bytes"),
        (form(FILE, FIELD.format("parameters", "top_k=2")), (400, "malformed"), "parameters: Invalid JSON"),
        (form(FILE, FIELD.format("parameters", '{"top": 2}')), (400, "malformed"), "parameters.top: Extra inputs"),
        (
            form(FILE, FIELD.format("parameters", '{"top_k": 2}'), FIELD.format("top_k", "3")),
            (400, "malformed"),
            "top_k is 3 and, in parameters, 2, expected one",
        ),
        (form(*[FILE] * 65), (400, "malformed"), "more than 64 parts"),
        (form("a: b\r\n" * 9 + "\r\n"), (400, "malformed"), "Maximum header"),
        (form("a" * 5000), (400, "malformed"), "Maximum header"),
        ({"content": b"garbage", "headers": form()["headers"]}, (400, "malformed"), "cannot be read"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, (400, "malformed"), "no boundary"),
        ({"files": {"f": ("a", b"x" * 5001)}}, (413, "body_too_large"), "expected at most 5,000"),
        ({"files": {"f": ("a", b"x" * 99_999)}}, (413, "body_too_large"), "expected at most"),
        ({"files": {"f": ("a.png", b"x", "image/png")}}, (415, "not_audio_type"), "image/png"),
    ],
)
def test_forms_that_are_refused(app: App, sent: dict[str, Any], expected: tuple[int, str], says: str) -> None:
    answer = app.ask("POST", "/models/genre", **sent)
    assert refusal(answer) == expected
    assert says in answer.json()["error"]
    assert not app.engine.calls


def test_bulk_takes_no_form(app: App) -> None:
    assert refusal(app.ask("POST", "/v1/bulk", files={"f": ("a", b"x")})) == (415, "not_audio_type")


# base64


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
def test_base64_in_any_dress(inputs: str, padding: int) -> None:
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


# Parameters


def test_parameters_in_the_query(app: App) -> None:
    path = "/models/genre?top_k=2&function_to_apply=sigmoid&max_windows=3"
    assert classify(app, path, content=DATA) == (DATA, "sigmoid", 3, 2)
    assert classify(app, path, json={"inputs": INPUTS, "parameters": {"top_k": 2}}) == (DATA, "sigmoid", 3, 2)
    for parameters in ({"top_k": 3}, {"function_to_apply": "none"}):
        answer = app.ask("POST", path, json={"inputs": INPUTS, "parameters": parameters})
        assert refusal(answer) == (400, "malformed")
        assert "in the query and" in answer.json()["error"]
    for wrong in ("top_k=0", "top_k=x", "function_to_apply=tanh"):
        assert refusal(app.ask("POST", f"/models/genre?{wrong}", content=DATA)) == (400, "malformed")


# Content types


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


# Content codings


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
    for behind, says in ((b"junk", "goes on after its end"), (b"\x1f", "ends early"), (b"\x1fx", "goes on")):
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


# Methods, and the document


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/page/app.js", "/v1/nowhere", "/healthz", "/metrics"])
def test_head_is_get_without_its_body(app: App, path: str) -> None:
    head, whole = app.ask("HEAD", path), app.ask("GET", path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    varying = {"x-request-id", "content-length"} if path == "/metrics" else {"x-request-id"}
    assert [line for line in head.headers.items() if line[0] not in varying] == [
        line for line in whole.headers.items() if line[0] not in varying
    ]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/tag", "POST"),
        ("HEAD", "/v1/tag", "POST"),
        ("OPTIONS", "/v1/bulk", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("PUT", "/docs", "GET, HEAD"),
        ("POST", "/page/app.js", "GET, HEAD"),
        ("POST", "/swagger/swagger-ui.css", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_there_are(app: App, method: str, path: str, allow: str) -> None:
    answer = app.ask(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert method == "HEAD" or refusal(answer) == (405, "no_method")


@pytest.mark.parametrize("path", ["/nowhere", "/page/nowhere", "/page/%00", "/page/..%2fapp.py", "/page/" + "a" * 5000])
def test_what_is_not_there_is_said_in_the_one_form(app: App, path: str) -> None:
    assert refusal(app.ask("GET", path)) == (404, "no_route")


def test_a_bug_is_answered_in_the_one_form(app: App) -> None:
    assert refusal(app.ask("POST", "/v1/view", content=b"bug")) == (500, "internal")


def test_the_document_says_what_is_taken(app: App) -> None:
    paths = app.ask("GET", "/openapi.json").json()["paths"]
    for path, operations in paths.items():
        assert ("get" in operations) == ("head" in operations)
        for operation in operations.values():
            assert {"400", "403", "431"} <= set(operation["responses"]), path
    assert not any("content" in answer for answer in paths["/healthz"]["head"]["responses"].values())
    operations = [operation for methods in paths.values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    classify = paths["/models/{name}"]["post"]
    assert {entry["name"] for entry in classify["parameters"]} == {"name", "top_k", "function_to_apply", "max_windows"}
    bodies = {"application/octet-stream", "audio/*", "multipart/form-data"}
    assert set(classify["requestBody"]["content"]) == {*bodies, "application/json"}
    assert set(paths["/v1/tag"]["post"]["requestBody"]["content"]) == bodies
    assert "415" in paths["/v1/tag"]["post"]["responses"]
