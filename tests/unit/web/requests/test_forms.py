"""Audio in a form, as curl and browsers send it: the file, the parameters beside it, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.apps import App, refusal
from tests.unit.web.sent import DATA, FILE, classify, form


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


NAMED = "Content-Disposition: form-data; name=\"f\"; filename*=UTF-8''s%C3%B6ng.mp3\r\n\r\nRIFF"


FIELD = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}'


def test_a_name_in_utf_8_is_a_name(app: App) -> None:
    app.ask("POST", "/v1/tag", **form(NAMED))
    assert app.engine.calls == [(b"RIFF", None)]


def test_form_parts_with_few_headers_are_accepted(app: App) -> None:
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
