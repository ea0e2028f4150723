"""A server starts only on a name and port that it can listen on, and ends whoever reads its output."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from tonearm.api import serving
from tonearm.cli import serve as verb
from tonearm.errors import UsageError


def test_a_full_output_pipe_does_not_keep_a_server_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SAY_S", 0.05)
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
        started = time.monotonic()
        verb._say(writer, "stopped")
        assert time.monotonic() - started < 5
    finally:
        os.close(reader)
        os.close(writer)


def test_a_name_that_dns_could_not_have_is_one_line() -> None:
    with pytest.raises(UsageError, match="cannot be listened on"):
        serving._check_port("a" * 64 + ".example", 8000)
