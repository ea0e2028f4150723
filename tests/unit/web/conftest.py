"""The server's app, asked in this process."""

from __future__ import annotations

import pytest

from tests.apps import App
from tests.unit.web.sent import app_of


@pytest.fixture
def app() -> App:
    """An app that takes bodies of 5,000 bytes at most, and has noted no call yet."""
    made = app_of(max_body_bytes=5000)
    made.engine.calls.clear()
    return made
