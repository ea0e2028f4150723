"""The routes: parameters in the query, HEAD, and a server that a proxy has under a sub-path."""

from __future__ import annotations

import re

import pytest

from tests.apps import App, refusal
from tests.unit.web.sent import DATA, INPUTS, classify
from tonearm.errors import SettingsError
from tonearm.settings import ServeSettings


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


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/page/app.js", "/v1/nowhere", "/healthz", "/metrics"])
def test_head_is_get_without_its_body(app: App, path: str) -> None:
    head, whole = app.ask("HEAD", path), app.ask("GET", path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    varying = {"x-request-id", "content-length"} if path == "/metrics" else {"x-request-id"}
    assert [line for line in head.headers.items() if line[0] not in varying] == [
        line for line in whole.headers.items() if line[0] not in varying
    ]


@pytest.mark.parametrize("before", ["", "/music/tonearm"], ids=["a proxy that cuts it off", "one that does not"])
def test_a_server_under_a_sub_path(before: str) -> None:
    app = App(root_path="/music/tonearm/")
    page = app.ask("GET", f"{before}/")
    assert '<base href="/music/tonearm/">' in page.text
    assert "base-uri 'self'" in page.headers["content-security-policy"]
    docs = app.ask("GET", f"{before}/docs")
    assert "script-src 'self' 'unsafe-inline'" in docs.headers["content-security-policy"]
    links = re.findall(r"(?:href|src)=\"([^\"]+)\"|url: '([^']+)'", docs.text)
    for link in (a or b for a, b in links):
        path = link if link.startswith("/") else f"/music/tonearm/{link}"
        assert path.startswith("/music/tonearm/")
        assert app.ask("GET", before + path.removeprefix("/music/tonearm")).status_code == 200, link
    assert len(links) >= 4
    assert app.ask("GET", f"{before}/openapi.json").json()["servers"] == [{"url": "/music/tonearm"}]
    assert app.ask("GET", f"{before}/page/app.js").status_code == 200
    assert app.ask("POST", f"{before}/v1/view", content=b"x").status_code == 200
    assert refusal(app.ask("GET", f"{before}/nowhere")) == (404, "no_route")
    assert refusal(app.ask("GET", f"{before}/music")) == (404, "no_route")


def test_the_sub_path_itself_is_the_page() -> None:
    assert "<base" in App(root_path="/music").ask("GET", "/music").text
    assert "<base" not in App(root_path="/").ask("GET", "/").text


@pytest.mark.parametrize("path", ["music", "/mu sic", "//music", "/a/../b", "/a?b", "https://x/y", "/v1", "/docs/x"])
def test_what_is_no_sub_path_is_refused_at_the_start(path: str) -> None:
    with pytest.raises(SettingsError, match=r"serve\.root_path: got"):
        ServeSettings(root_path=path)
