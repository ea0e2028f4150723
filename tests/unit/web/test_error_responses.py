"""Every refusal of the server has one form: error, code, hint and request id."""

from __future__ import annotations

import pytest

from tests.apps import App, refusal


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
