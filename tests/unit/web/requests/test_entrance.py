"""What is refused before any route: pages of other sites, unknown hosts, broken headers; and which origins may ask."""

from __future__ import annotations

import functools

import pytest

from tests.apps import LOCAL, App, refusal
from tonearm.web.requests.keys import new_key

KEY, LINE = new_key("radio")


FOREIGN = {
    "another site": {"origin": "https://evil.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    "by its origin alone": {"origin": "https://evil.example"},
    "a sandboxed page": {"origin": "null", "sec-fetch-site": "cross-site"},
    "another port": {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
    "another scheme": {"origin": "https://localhost:8000"},
    "a name that begins alike": {"origin": "http://localhost:8000.evil.example"},
    "an origin that is none": {"origin": "localhost:8000"},
    "an empty origin": {"origin": ""},
    "an image of another site": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    "a script of another port": {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    "a form of another site": {"origin": "https://evil.example", "sec-fetch-mode": "navigate"},
    "own origin by a detour": {"origin": LOCAL, "sec-fetch-site": "cross-site"},
}


ROUTES = [
    *(("POST", path) for path in ("/models/genre", "/v1/tag", "/v1/embed", "/v1/view", "/v1/bulk")),
    *(("GET", path) for path in ("/v1/models", "/healthz", "/metrics", "/openapi.json", "/nowhere", "/page/app.js")),
    ("HEAD", "/healthz"),
    ("PUT", "/v1/tag"),
    ("OPTIONS", "/v1/tag"),
]


@functools.cache
def app_with(keys: tuple[str, ...]) -> App:
    return App(api_keys=keys)


@pytest.fixture
def app() -> App:
    return app_with(())


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=list(FOREIGN))
def test_without_keys_pages_of_others_are_refused(app: App, headers: dict[str, str]) -> None:
    app.engine.calls.clear()
    answer = app.ask("POST", "/v1/view", headers=headers, content=b"x")
    assert refusal(answer) == (403, "foreign_origin")
    assert "--allow-origin" in answer.json()["hint"]
    assert not app.engine.calls


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_they_are_refused_on_every_route_that_works_or_tells(app: App, method: str, path: str) -> None:
    answer = app.ask(method, path, headers=FOREIGN["another site"])
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": LOCAL, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"},
        {"origin": "HTTP://LocalHost:8000"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
    ],
)
def test_without_keys_the_own_page_and_programs_are_served(app: App, headers: dict[str, str]) -> None:
    assert app.ask("POST", "/v1/view", headers=headers, content=b"x").status_code == 200


def test_the_port_that_a_scheme_has_anyway_is_the_same_origin(app: App) -> None:
    headers = {"host": "localhost:80", "origin": "http://localhost"}
    assert app.ask("POST", "/v1/view", headers=headers, content=b"x").status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/page/style.css"])
def test_a_link_of_another_site_leads_to_a_page(app: App, path: str) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert app.ask("GET", path, headers=link).status_code == 200
    assert app.ask("GET", path, headers={**link, "sec-fetch-dest": "iframe"}).status_code == 403
    assert app.ask("GET", path, headers={**link, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert app.ask("GET", "/v1/models", headers=link).status_code == 403


def test_with_keys_a_key_is_what_counts() -> None:
    app = App(api_keys=(LINE,))
    for headers in FOREIGN.values():
        assert app.ask("POST", "/v1/view", headers={**headers, "x-api-key": KEY}, content=b"x").status_code == 200
        assert app.ask("POST", "/v1/view", headers=headers, content=b"x").status_code == 401


def test_two_hosts_are_refused_with_keys_too() -> None:
    headers = [(b"host", b"localhost"), (b"host", b"evil.example"), (b"x-api-key", KEY.encode())]
    answer = App(api_keys=(LINE,)).ask("POST", "/v1/view", headers=headers, content=b"x")
    assert refusal(answer) == (400, "malformed")


@pytest.mark.parametrize("keys", [(), (LINE,)])
def test_a_page_that_is_allowed_may_ask_and_read(keys: tuple[str, ...]) -> None:
    app = App(allow_origins=("https://music.example", "http://localhost:3000"), api_keys=keys)
    origin = {"origin": "https://music.example", "sec-fetch-site": "cross-site", "x-api-key": KEY}
    answers = {
        200: app.ask("POST", "/v1/view", headers=origin, content=b"x"),
        404: app.ask("GET", "/nowhere", headers=origin),
        405: app.ask("DELETE", "/v1/tag", headers=origin),
        415: app.ask("POST", "/v1/tag", headers=origin, content=b"x"),
        500: app.ask("POST", "/v1/view", headers=origin, content=b"bug"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "https://music.example"
        assert "Origin" in answer.headers["vary"]
        assert {"X-Request-ID", "Retry-After"} <= set(answer.headers["access-control-expose-headers"].split(", "))
        assert status == 200 or refusal(answer)[0] == status
    other = app.ask("POST", "/v1/view", headers={**origin, "origin": "https://evil.example"}, content=b"x")
    assert "access-control-allow-origin" not in other.headers
    assert "Origin" in other.headers["vary"]
    assert other.status_code == (200 if keys else 403)


def test_an_allowed_origin_does_not_let_in_another_machine() -> None:
    app = App(allow_origins=("*",))
    headers = {"origin": "https://music.example", "sec-fetch-site": "cross-site"}
    assert app.ask("POST", "/v1/view", headers=headers, content=b"x").headers["access-control-allow-origin"] == "*"
    for more, client in (({}, "192.168.0.7"), ({"host": "evil.example"}, "127.0.0.1")):
        answer = app.ask("POST", "/v1/view", headers={**headers, **more}, client=client, content=b"x")
        assert refusal(answer) == (401, "unauthorized")


def test_a_preflight_is_answered_without_a_key() -> None:
    app = App(allow_origins=("https://music.example",), api_keys=(LINE,))
    asked = {
        "origin": "https://music.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-encoding,content-type,x-api-key,x-request-id",
        "access-control-request-private-network": "true",
    }
    answer = app.ask("OPTIONS", "/v1/tag", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://music.example"
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert int(answer.headers["access-control-max-age"]) >= 600
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["vary"].startswith("Origin")
    for more, expected in (
        ({"origin": "https://evil.example"}, (403, "foreign_origin")),
        ({"access-control-request-method": "DELETE"}, (400, "malformed")),
        ({"access-control-request-headers": "x-other"}, (400, "malformed")),
    ):
        assert refusal(app.ask("OPTIONS", "/v1/tag", headers={**asked, **more})) == expected


NAMES = [
    *("authorization", "x-api-key", "content-type", "content-encoding", "content-length", "origin", "host"),
    *("sec-fetch-site", "x-request-id", "accept", "cookie", "serve_multiplexed_model_id", "x-session-id"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [b"\xe9", b"Bearer \xff\xfe", b"Basic \xff", b"\x80/\x80; boundary=\xff"])
@pytest.mark.parametrize("keys", [(), (LINE,)], ids=["no keys", "keys"])
def test_headers_in_any_bytes_are_served_or_refused(name: str, value: bytes, keys: tuple[str, ...]) -> None:
    app = app_with(keys)
    answer = app.ask("POST", "/v1/view", headers=[(name.encode(), value)], content=b"x")
    assert answer.status_code == 200 or 400 <= refusal(answer)[0] < 500
