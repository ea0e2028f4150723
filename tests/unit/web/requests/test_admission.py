"""Who is let in and by what name, how often, how many at once, and when the others shall come back."""

from __future__ import annotations

import base64
import contextlib
import time

import pytest
from starlette.requests import Request

from tonearm.errors import RequestError, SettingsError
from tonearm.settings import ServeSettings
from tonearm.web.requests.admission import Gate, is_loopback, parse_rate, retry_after
from tonearm.web.requests.keys import new_key

KEY, LINE = new_key("radio")


OTHER_KEY, OTHER_LINE = new_key("archive")


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def asks(*, client: str | None = "127.0.0.1", host: str | None = "localhost:8000", **headers: str) -> Request:
    """Return a request from the address ``client``; an underscore of a header's name stands for a hyphen."""
    given = {name.replace("_", "-"): value for name, value in headers.items()} | ({"host": host} if host else {})
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    return Request({"type": "http", "headers": pairs, "client": None if client is None else (client, 40_000)})


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def is_let_in(gate: Gate, request: Request) -> bool:
    try:
        gate.identify(request)
    except RequestError as error:
        assert (error.code, error.http_status) == ("unauthorized", 401)
        return False
    return True


def wait_of(gate: Gate) -> float | None:
    """Return after how long somebody shall come back whom the gate refuses."""
    with pytest.raises(RequestError) as caught:
        gate.check_room()
    return caught.value.retry_after_s


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.1", "::1", "[::1]", "localhost"])
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(host) is True


@pytest.mark.parametrize(
    "host",
    [None, "", "126.255.255.255", "128.0.0.1", "0.0.0.0", "::", "::2", "fe80::1", "localhost.org", "127.0.0.1.org"],
)
def test_names_of_others(host: str | None) -> None:
    assert is_loopback(host) is False


def test_without_keys_this_machine_is_served_and_known_by_its_address() -> None:
    gate = Gate(ServeSettings())
    assert gate.identify(asks(client="127.0.0.1")) == "127.0.0.1"
    assert gate.identify(asks(client="::1")) == "::1"


NAMES_HERE = [
    *("localhost", "localhost:8000", "LOCALHOST", "LocalHost:80", "localhost.", "localhost.:8000", "127.0.0.1:8000"),
    *("127.0.0.1", "127.0.0.1:65535", "[::1]:8000", "[::1]", "[0:0:0:0:0:0:0:1]:8000", "[::ffff:127.0.0.1]:8000"),
]


@pytest.mark.parametrize("host", NAMES_HERE)
def test_without_keys_this_machine_is_served_whatever_it_calls_itself(host: str) -> None:
    assert is_let_in(Gate(ServeSettings()), asks(host=host))


NO_NAMES_HERE = [
    *(None, "evil.org", "192.168.0.7:80", "localhost.org:80", "[::2]:80", "80:localhost", "[evil]:127.0.0.1"),
    *("[::1]evil", "[::1]:80:80", "[::1", "::1]", "::1", "[127.0.0.1]", "[::1%eth0]", "localhost:", "localhost:0"),
    *("localhost:65536", "localhost:+80", "localhost:8e1", "localhost:\xb2", "localhost:80:80", "localhost:-1"),
    *("user@localhost", "localhost@evil.org", "localhost/", "localhost..", ".localhost", "local host"),
    *("localhost,evil", "127.0.0.1.evil.org", "127.1", "0x7f.0.0.1", "localhost\xe9", "[::ffff:10.0.0.1]:8000"),
]


@pytest.mark.parametrize("host", NO_NAMES_HERE)
def test_without_keys_a_page_of_another_site_is_refused(host: str | None) -> None:
    with pytest.raises(RequestError, match="without API keys only requests from this machine are served") as caught:
        Gate(ServeSettings()).identify(asks(host=host))
    assert (caught.value.code, caught.value.http_status) == ("unauthorized", 401)


def test_without_keys_two_host_headers_are_refused() -> None:
    request = asks()
    request.scope["headers"].append((b"host", b"localhost:8000"))
    assert not is_let_in(Gate(ServeSettings()), request)


@pytest.mark.parametrize("client", ["192.168.0.7", "2001:db8::1", "128.0.0.1", None])
def test_without_keys_another_machine_is_refused_whatever_host_it_names(client: str | None) -> None:
    assert not is_let_in(Gate(ServeSettings()), asks(client=client))
    assert not is_let_in(Gate(ServeSettings()), asks(client=client, host="example.org"))


@pytest.mark.parametrize("header", ["forwarded", "x_forwarded_for", "x_real_ip"])
def test_without_keys_what_came_through_a_proxy_is_refused(header: str) -> None:
    assert not is_let_in(Gate(ServeSettings()), asks(**{header: "127.0.0.1"}))
    assert not is_let_in(Gate(ServeSettings()), asks(client="192.168.0.7", **{header: "127.0.0.1"}))
    assert not is_let_in(Gate(ServeSettings()), asks(host="example.org", **{header: "127.0.0.1"}))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"authorization": f"BEARER  {KEY} "},
        {"x_api_key": KEY},
        {"authorization": "Basic cmFkaW86", "x_api_key": KEY},
        {"authorization": "Digest username=radio", "x_api_key": KEY},
        {"authorization": f"Bearer {KEY}", "x_api_key": "ta-unknown"},
        {"authorization": KEY},
        {"authorization": f"Token {KEY}"},
        {"authorization": f"Bearer '{KEY}'"},
        {"authorization": f"Bearer key, shown this once: {KEY}"},
        {"authorization": f"Bearer Bearer {KEY}"},
        {"authorization": basic(f"radio:{KEY}")},
        {"authorization": basic(f"{KEY}:")},
        {"authorization": basic("somebody:else"), "x_api_key": KEY},
        {"x_api_key": f"Bearer {KEY}"},
        {"x_api_key": f'  "{KEY}" '},
        {"x_api_key": f"\xa0{KEY}\xa0"},
        {"x_api_key": f"key, shown this once: {KEY}"},
    ],
)
def test_with_keys_the_holder_is_known_from_anywhere(headers: dict[str, str]) -> None:
    gate = Gate(ServeSettings(api_keys=(OTHER_LINE, LINE)))
    assert gate.identify(asks(client="192.168.0.7", host="example.org", forwarded="for=10.0.0.1", **headers)) == "radio"
    assert gate.identify(asks(client=None, host=None, **headers)) == "radio"


def test_each_key_has_its_holder() -> None:
    gate = Gate(ServeSettings(api_keys=(LINE, OTHER_LINE)))
    assert [gate.identify(asks(x_api_key=key)) for key in (KEY, OTHER_KEY)] == ["radio", "archive"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {OTHER_KEY}"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Digest {KEY}"},
        {"authorization": f"Bearer x{KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"x_api_key": OTHER_KEY},
        {"authorization": "Bearer ta-unknown", "x_api_key": KEY},
        {"x_api_key": "\xff"},
        {"authorization": "Bearer \xe9\xff"},
        {"authorization": "Basic \xe9"},
        {"authorization": basic("radio:ta-unknown")},
        {"authorization": "\xe9"},
    ],
)
def test_with_keys_nobody_comes_in_without_one_not_even_this_machine(headers: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="got no API key that is known here") as caught:
        Gate(ServeSettings(api_keys=(LINE,))).identify(asks(**headers))
    assert (caught.value.code, caught.value.http_status) == ("unauthorized", 401)


@pytest.mark.parametrize(
    "given",
    [LINE, LINE.partition(":")[2], f'"{LINE}"', f"line for --api-key-file: {LINE}"],
    ids=["the line", "its digest", "in quotes", "as printed"],
)
@pytest.mark.parametrize("header", ["x_api_key", "authorization"])
def test_a_client_that_sends_the_whole_line_of_a_key_file_is_told_so(given: str, header: str) -> None:
    headers = {header: f"Bearer {given}" if header == "authorization" else given}
    with pytest.raises(RequestError, match=r"got the line that lets a key in .* expected the key itself") as caught:
        Gate(ServeSettings(api_keys=(LINE,))).identify(asks(**headers))
    assert caught.value.http_status == 401


def test_a_rate_is_a_number_and_a_time() -> None:
    rates = [parse_rate(text) for text in ("60/minute", "5 per 2 hours")]
    assert [(rate.amount, rate.get_expiry()) for rate in rates] == [(60, 60), (5, 7200)]


@pytest.mark.parametrize("text", ["sixty", "60/fortnight", "/minute", "60"])
def test_what_is_no_rate_is_refused_before_anything_is_served(text: str) -> None:
    says = f"serve.rate_limit: got '{text}', expected a rate such as 60/minute"
    with pytest.raises(SettingsError) as caught:
        Gate(ServeSettings(rate_limit=text))
    assert caught.value.message == says


def test_without_a_rate_nobody_is_counted() -> None:
    gate = Gate(ServeSettings())
    assert gate.rate is None
    for _ in range(200):
        gate.meter("radio")


def test_who_asks_too_often_is_told_when_the_oldest_request_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(10.0)
    monkeypatch.setattr(time, "time", clock)
    gate = Gate(ServeSettings(rate_limit="2/minute"))
    gate.meter("radio")
    clock.now = 20.5
    gate.meter("radio")
    for now, wait_s in [(20.5, 49.5), (30.0, 40.0), (69.75, 0.25)]:
        clock.now = now
        with pytest.raises(RequestError, match="more than 2/minute requests") as caught:
            gate.meter("radio")
        assert (caught.value.code, caught.value.http_status) == ("rate_limited", 429)
        assert caught.value.retry_after_s == wait_s
        gate.meter(f"somebody else at {now}")
    clock.now = 70.25  # the first is forgotten, and those that were refused do not count
    gate.meter("radio")
    with pytest.raises(RequestError) as caught:
        gate.meter("radio")
    assert caught.value.retry_after_s == 10.25


def test_there_are_as_many_places_as_the_settings_say() -> None:
    gate = Gate(ServeSettings(max_queue=300))
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            gate.check_room()
            stack.enter_context(gate.place())
        with pytest.raises(RequestError) as caught, gate.place():
            pytest.fail("a place too many")
        assert caught.value.message == "300 requests are in progress already (serve.max_queue)"
        assert (caught.value.code, caught.value.http_status) == ("busy", 503)
        assert wait_of(gate) == 150.0  # half of 300 seconds, one each until there is a measurement
    gate.check_room()


def test_a_place_is_given_back_once_also_after_an_error() -> None:
    gate = Gate(ServeSettings(max_queue=2))
    with gate.place():
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), gate.place():
                raise ZeroDivisionError
        with gate.place(), pytest.raises(RequestError, match="2 requests are in progress"):
            gate.check_room()
        gate.check_room()


def test_with_one_place_a_second_request_is_refused() -> None:
    gate = Gate(ServeSettings(max_queue=1))
    for _ in range(2):
        with gate.place(), pytest.raises(RequestError, match="1 request is in progress"):
            gate.check_room()
    gate.check_room()


def test_the_wait_follows_by_a_fifth_what_each_request_took_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(3.0)
    monkeypatch.setattr(time, "monotonic", clock)
    gate = Gate(ServeSettings(max_queue=2))
    with gate.place():
        with gate.place():
            assert wait_of(gate) == 1.0  # half of two requests, a second each
            clock.now = 11.0  # eight seconds, shared with the first: four
        with gate.place():
            assert wait_of(gate) == pytest.approx(1.6)  # 1 + (4 - 1) / 5
            clock.now = 12.0  # one second, shared: a half
        clock.now = 23.0  # twenty seconds, at last alone
    with gate.place(), gate.place():
        assert wait_of(gate) == pytest.approx(5.104)  # 1.6 + (0.5 - 1.6) / 5 = 1.38; 1.38 + (20 - 1.38) / 5


def test_what_is_refused_a_place_changes_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(3.0)
    monkeypatch.setattr(time, "monotonic", clock)
    gate = Gate(ServeSettings(max_queue=1))
    with gate.place():
        clock.now = 9.0
        for _ in range(5):
            assert wait_of(gate) == 0.5
            with pytest.raises(RequestError), gate.place():
                pytest.fail("a place too many")
    with gate.place():
        assert wait_of(gate) == pytest.approx(1.0)  # half of 1 + (6 - 1) / 5


def test_a_server_that_is_being_stopped_takes_nothing_more_and_says_when_another_may() -> None:
    gate = Gate(ServeSettings(max_queue=1))
    with gate.place():
        gate.is_stopping = True
        for refused in (gate.check_room, gate.place().__enter__):
            with pytest.raises(RequestError, match="this server is being stopped") as caught:
                refused()
            assert (caught.value.code, caught.value.http_status) == ("stopping", 503)
            assert caught.value.retry_after_s == 10.0
    gate.is_stopping = False
    with gate.place():
        assert wait_of(gate) is not None


@pytest.mark.parametrize(
    ("seconds", "value"),
    [(-3.0, "1"), (0.0, "1"), (1.0, "1"), (1.01, "2"), (59.0, "59"), (59.2, "60"), (60.0, "60"), (60.5, "60")],
)
def test_retry_after_is_in_whole_seconds_of_a_minute_at_most(seconds: float, value: str) -> None:
    assert retry_after(seconds) == value


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "10.0.0.1", "::", "localhost.evil.org", "127.0.0.1.evil.org", None)],
)
def test_what_this_machine_is_called(host: str | None, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_retry_after_is_whole_seconds_and_bounded() -> None:
    assert [retry_after(value) for value in (-3.0, 0.2, 1.2, 1e9)] == ["1", "1", "2", "60"]


def test_a_full_gate_says_when_to_come_back() -> None:
    from tonearm.errors import RequestError

    gate = Gate(ServeSettings(max_queue=2))
    with gate.place(), gate.place():
        with pytest.raises(RequestError, match="2 requests are in progress") as caught:
            gate.check_room()
        assert caught.value.http_status == 503
        assert caught.value.retry_after_s is not None
    gate.check_room()
    gate.is_stopping = True
    with pytest.raises(RequestError, match="being stopped"):
        gate.check_room()


@pytest.mark.parametrize("rate", ["0/minute", "5/minute;1/hour"])
def test_a_rate_that_means_something_else_is_refused(rate: str) -> None:
    with pytest.raises(SettingsError, match="expected a rate such as 60/minute"):
        Gate(ServeSettings(rate_limit=rate))
