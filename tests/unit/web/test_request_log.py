"""Every request has an id: the client's where it is plain, one of the server's own otherwise."""

from __future__ import annotations

import re

import pytest

from tests.apps import App


@pytest.mark.parametrize("value", [b"\xe9", b"\xff" * 50, b"a" * 65, b"two words", b"<script>", b"\xd9\xa3", b""])
def test_a_request_id_that_is_not_plain_is_not_used(app: App, value: bytes) -> None:
    answer = app.ask("GET", "/healthz", headers=[(b"x-request-id", value)])
    assert answer.status_code == 200
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_plain_request_id_is_answered_once(app: App) -> None:
    answer = app.ask("GET", "/healthz", headers={"x-request-id": "my-id.1"})
    assert answer.headers.get_list("x-request-id") == ["my-id.1"]
