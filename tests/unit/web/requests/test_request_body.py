"""What of a request's body is taken, and with which words the rest is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Sequence

import pytest
from starlette.requests import Request

from tests.unit.web.requests.bodies import received, request, take, upload, whole
from tonearm.errors import RequestError
from tonearm.settings import ServeSettings
from tonearm.web.messages import BulkRequest
from tonearm.web.requests.buffers import Held
from tonearm.web.requests.request_body import BodyReader, Upload


def refusal(read: Callable[..., object], *arguments: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(*arguments)
    return caught.value


def classify(reader: BodyReader, request: Request) -> Upload:
    return take(reader, lambda held: reader.read_classify(request, held))


def bulk(reader: BodyReader, request: Request, max_bytes: int = 1000) -> list[str]:
    return take(reader, lambda held: reader.read_json(request, held, BulkRequest, max_bytes, 100)).uris


def as_json(data: bytes, **more: object) -> bytes:
    return json.dumps({"inputs": base64.b64encode(data).decode(), **more}).encode()


def test_a_body_is_what_came_in_whatever_parts_it_came_in() -> None:
    reader = BodyReader(ServeSettings(max_body_bytes=10))
    assert upload(reader, request([b"abc", b"", b"defg", b"hij"])) == b"abcdefghij"
    assert upload(reader, request([b""])) == b""


@pytest.mark.parametrize("num_bytes", [0, 3, 7])
def test_a_body_that_breaks_off(num_bytes: int) -> None:
    reader = BodyReader(ServeSettings())
    error = refusal(whole, reader, request([b"x" * num_bytes], ends=False))
    assert error.message == f"the body broke off after {num_bytes} bytes"
    assert (error.code, error.http_status) == ("malformed", 400)


def test_a_body_of_a_byte_too_many_is_refused_when_that_byte_comes() -> None:
    reader = BodyReader(ServeSettings(max_body_bytes=2000))
    assert upload(reader, request([b"x" * 2000])) == b"x" * 2000
    assert upload(reader, request([b"x" * 1999, b"y"])) == b"x" * 1999 + b"y"
    says = "got a body of {} bytes or more, expected at most 2,000 (serve.max_body_bytes)"
    for parts, size in [([2001], "2,001"), ([2000, 1], "2,001"), ([1500, 1500, 1500], "3,000")]:
        body = [b"x" * length for length in parts]
        error = refusal(upload, reader, request(body))
        assert error.message == says.format(size)
        assert (error.code, error.http_status) == ("body_too_large", 413)


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent() -> None:
    reader = BodyReader(ServeSettings(max_body_bytes=2000))
    assert upload(reader, request([b"x" * 2000], declared="2000")) == b"x" * 2000

    async def receive() -> dict[str, object]:
        pytest.fail("a part was read")

    for declared, shown in [("2001", "2,001"), ("5000000", "5,000,000")]:
        error = refusal(upload, reader, received(receive, declared=declared))
        assert error.message == f"got a body of {shown} bytes or more, expected at most 2,000 (serve.max_body_bytes)"
        assert (error.code, error.http_status) == ("body_too_large", 413)


@pytest.mark.parametrize("declared", [None, "", "0", "2", "abc", "-2001", "2e9", "2001, 2001"])
def test_a_length_that_is_none_or_false_decides_nothing(declared: str | None) -> None:
    reader = BodyReader(ServeSettings(max_body_bytes=2000))
    assert upload(reader, request([b"x" * 2000], declared=declared)) == b"x" * 2000
    error = refusal(upload, reader, request([b"x" * 2001], declared=declared))
    assert error.code == "body_too_large"


def test_a_route_may_take_less_or_more_than_the_settings_say() -> None:
    reader = BodyReader(ServeSettings(max_body_bytes=10))
    for max_bytes in (5, 20):
        assert whole(reader, request([b"x" * max_bytes]), max_bytes) == b"x" * max_bytes
        error = refusal(whole, reader, request([b"x" * max_bytes, b"y"]), max_bytes)
        assert f"of {max_bytes + 1} bytes or more, expected at most {max_bytes} (" in error.message


def send_slowly(
    monkeypatch: pytest.MonkeyPatch, pauses_s: Sequence[float], settings: ServeSettings
) -> bytes | RequestError:
    """Return what becomes of a body of a byte after each pause; nobody waits, the loop's clock is put forward."""
    reader = BodyReader(settings)
    todo = list(pauses_s)

    async def run(held: Held) -> bytes:
        now_s = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)

        async def receive() -> dict[str, object]:
            nonlocal now_s
            now_s += todo.pop(0)
            for _ in range(3):  # the loop looks at its clock
                await asyncio.sleep(0)
            return {"type": "http.request", "body": b"x", "more_body": bool(todo)}

        return (await reader.read_audio(received(receive), held)).data

    try:
        return take(reader, run)
    except RequestError as error:
        return error


def test_a_body_may_take_its_time_as_long_as_it_comes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServeSettings(body_timeout_s=10.0, body_idle_timeout_s=2.0)
    assert send_slowly(monkeypatch, [1.9] * 5, settings) == b"xxxxx"


@pytest.mark.parametrize(
    ("pauses_s", "num_bytes"),
    [
        ([2.1, 0.1], 0),
        ([0.1, 0.1, 2.1, 0.1], 2),  # silence
        ([1.9] * 6, 5),  # 11.4 s in all
        ([0.5] * 40, 19),
    ],
)
def test_a_body_that_is_silent_or_too_slow_in_all_is_given_up(
    monkeypatch: pytest.MonkeyPatch, pauses_s: list[float], num_bytes: int
) -> None:
    error = send_slowly(monkeypatch, pauses_s, ServeSettings(body_timeout_s=10.0, body_idle_timeout_s=2.0))
    assert isinstance(error, RequestError)
    assert error.message == (
        f"got {num_bytes} bytes of a body and then waited in vain, or too long in all (serve.body_timeout_s = 10, "
        "serve.body_idle_timeout_s = 2)"
    )
    assert (error.code, error.http_status) == ("body_timeout", 408)


@pytest.mark.parametrize(("whole_s", "idle_s"), [(0.05, 20.0), (300.0, 0.05)])
def test_a_client_that_stops_sending_is_not_waited_for(whole_s: float, idle_s: float) -> None:
    reader = BodyReader(ServeSettings(body_timeout_s=whole_s, body_idle_timeout_s=idle_s))
    parts = [b"x" * 1500]

    async def receive() -> dict[str, object]:
        if not parts:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": parts.pop(), "more_body": True}

    error = refusal(upload, reader, received(receive))
    assert "got 1,500 bytes of a body" in error.message
    assert f"(serve.body_timeout_s = {whole_s:g}, serve.body_idle_timeout_s = {idle_s:g})" in error.message


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "audio/mpeg",
        "Audio/WAV; codecs=1",
        "video/webm;codecs=opus",
        "application/octet-stream",
        "application/ogg",
        "binary/octet-stream",
        "application/x-www-form-urlencoded",
        "text/plain",
        "TEXT/PLAIN; charset=utf-8",
        "audio/x-unheard-of; charset=binary",
        "application/x-flac",
        "x-audio/wav",
        "audio",
        "*/*",
        "audio/m\xe9lange",
    ],
)
def test_an_upload_is_taken_unless_it_says_that_it_is_no_audio(kind: str | None) -> None:
    reader = BodyReader(ServeSettings())
    assert upload(reader, request([b"RIFF"], kind=kind)) == b"RIFF"
    assert classify(reader, request([b"RIFF"], kind=kind)) == Upload(b"RIFF")


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("text/html", "text/html"),
        ("Image/PNG ; q=1", "image/png"),
        ("multipart/mixed; boundary=audio/", "multipart/mixed"),
        ("application/json-lines", "application/json-lines"),
        ("application/pdf", "application/pdf"),
    ],
)
def test_an_upload_that_says_it_is_no_audio_is_refused(kind: str, shown: str) -> None:
    reader = BodyReader(ServeSettings())
    for read_as in (upload, classify):
        error = refusal(read_as, reader, request([b"RIFF"], kind=kind))
        assert error.message == f"got the content type {shown}, expected audio"
        assert (error.code, error.http_status) == ("not_audio_type", 415)


def test_json_is_no_upload() -> None:
    reader = BodyReader(ServeSettings())
    error = refusal(upload, reader, request([b"{}"], kind="application/json"))
    assert error.message == "got the content type application/json, expected audio"


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_audio_may_come_as_base64_with_parameters(kind: str) -> None:
    reader = BodyReader(ServeSettings())
    assert classify(reader, request([as_json(b"RIFF\0")], kind=kind)) == Upload(b"RIFF\0")
    body = as_json(b"", parameters={"top_k": 3, "function_to_apply": "sigmoid"}, options={"wait_for_model": True})
    assert classify(reader, request([body], kind=kind)) == Upload(b"", top_k=3, function_to_apply="sigmoid")


@pytest.mark.parametrize(
    "inputs",
    ["YWJj!", "YWJjY", "YQ==YQ==", "Y", "/music/a.mp3", "/etc/passwd", "YWJjé", "https://h/a.mp3", "=YWJj", "YW\0Jj"],
)
def test_inputs_that_are_not_base64(inputs: str) -> None:
    reader = BodyReader(ServeSettings())
    sent = request([json.dumps({"inputs": inputs}).encode()], kind="application/json")
    error = refusal(classify, reader, sent)
    assert error.message == "got `inputs` that are not base64"
    assert (error.code, error.http_status) == ("bad_base64", 400)


def test_audio_as_base64_may_be_as_long_as_an_upload() -> None:
    reader = BodyReader(ServeSettings(max_body_bytes=2000))
    for num_bytes in (1, 1999, 2000):
        assert classify(reader, request([as_json(b"x" * num_bytes)], kind="application/json")).data == b"x" * num_bytes
    for num_bytes, shown in [(2001, "2,001"), (3000, "3,000")]:
        sent = request([as_json(b"x" * num_bytes)], kind="application/json")
        error = refusal(classify, reader, sent)
        assert error.message == f"got a body of {shown} bytes or more, expected at most 2,000 (serve.max_body_bytes)"
        assert error.code == "body_too_large"


def test_json_around_audio_may_be_half_as_long_again_and_64_kib() -> None:
    """60,001 bytes are 80,001 and a third in base64, some more with line breaks, and 65,536 are for what is around."""
    reader = BodyReader(ServeSettings(max_body_bytes=60_001))
    body = as_json(b"x" * 60_001)
    padded = body[:12] + b"\\r" * ((155_537 - len(body)) // 2) + body[12:]
    padded += b" " * (155_537 - len(padded))
    assert classify(reader, request([padded], kind="application/json")).data == b"x" * 60_001
    error = refusal(classify, reader, request([padded, b" "], kind="application/json"))
    assert error.message == "got a body of 155,538 bytes or more, expected at most 155,537 (serve.max_body_bytes)"


@pytest.mark.parametrize("kind", [None, "", "application/json", "Application/JSON ; charset=utf-8"])
def test_a_list_comes_as_json(kind: str | None) -> None:
    body = b'{"uris": ["s3://a/b", "s3://a/c"]}'
    assert bulk(BodyReader(ServeSettings()), request([body], kind=kind), len(body)) == ["s3://a/b", "s3://a/c"]
    with pytest.raises(RequestError, match="of 34 bytes or more, expected at most 33"):
        bulk(BodyReader(ServeSettings()), request([body], kind=kind), len(body) - 1)


@pytest.mark.parametrize("kind", ["text/plain", "audio/wav", "application/jsonl", "application/x-www-form-urlencoded"])
def test_a_list_of_another_type_is_refused(kind: str) -> None:
    with pytest.raises(RequestError) as caught:
        bulk(BodyReader(ServeSettings()), request([b'{"uris": ["s3://a/b"]}'], kind=kind))
    assert caught.value.message == f"got the content type {kind}, expected application/json"
    assert (caught.value.code, caught.value.http_status) == ("not_audio_type", 415)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{}", "uris: Field required"),
        (b'{"uris": [1, "s3://a", 2]}', "uris.0: Input should be a valid string"),
        (b'{"uris": ["s3://a", 1], "max_windows": 0, "other": 1}', "uris.1: Input should be a valid string"),
        (b'{"uris": ["s3://a"], "max_windows": 0}', "max_windows: Input should be greater than or equal to 1"),
        (b'{"uris": ["s3://a"], "other": 1}', "other: Extra inputs are not permitted"),
        (b"", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b"[", "Invalid JSON: EOF while parsing a list at line 1 column 1"),
    ],
)
def test_json_of_another_form_is_refused_with_the_first_thing_wrong(body: bytes, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        bulk(BodyReader(ServeSettings()), request([body]))
    assert caught.value.message == says
    assert (caught.value.code, caught.value.http_status) == ("malformed", 400)
