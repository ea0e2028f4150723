"""What clients send, and what of it reaches the engine of an app that is asked in this process."""

from __future__ import annotations

import base64
import functools
from typing import Any

from tests.apps import App

DATA = bytes(range(256)) * 9
INPUTS = base64.b64encode(DATA).decode()
JSON = {"content-type": "application/json"}


@functools.cache
def app_of(**settings: int) -> App:
    return App(**settings)


def classify(app: App, path: str = "/models/genre", **body: Any) -> tuple[Any, ...]:
    """Return what reached the engine, and how many labels were answered."""
    answer = app.ask("POST", path, **body)
    assert answer.status_code == 200, answer.text
    (head, data, function, max_windows), *others = app.engine.calls
    app.engine.calls.clear()
    assert (head, others) == ("genre", [])
    return data, function, max_windows, len(answer.json())


def form(*parts: str, end: str = "--x--\r\n") -> dict[str, Any]:
    content = "".join(f"--x\r\n{part}\r\n" for part in parts) + end
    return {"content": content.encode("latin-1"), "headers": {"content-type": "multipart/form-data; boundary=x"}}


FILE = 'Content-Disposition: form-data; name="f"; filename="a"\r\n\r\nRIFF'
