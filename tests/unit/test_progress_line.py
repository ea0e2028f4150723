"""The progress line: live on a progress, plain lines elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest

from tonearm.api import progress
from tonearm.wording import clock, hours

SCRIPT = """
import os, time, types
from tonearm.api import progress
with progress.ProgressLine() as line:
    line.starting(20, 5)
    line.started -= 60
    line.progress(types.SimpleNamespace(num_tracks=5, num_failed=1, audio_s=3600.0))
    # While a run is quiet, stderr goes elsewhere; the line must not.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    line.progress(types.SimpleNamespace(num_tracks=10, num_failed=1, audio_s=7200.0))
"""


def through(pipe: Callable[[], tuple[int, int]]) -> str:
    ours, theirs = pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how a terminal says that the other side is gone
            part = b""
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


@pytest.mark.processes
def test_a_terminal_has_one_live_line_that_is_gone_at_the_end() -> None:
    shown = through(pty.openpty)
    assert "tagging 20 tracks, 5 of them done before" in shown
    assert "10/20 tracks" in shown
    assert "15/20 tracks · 2.0 h of audio" in shown
    assert "1 failed" in shown and "left" in shown
    assert shown.rstrip().endswith("\x1b[2K") or "\x1b[2K" in shown.rpartition("15/20")[2]


@pytest.mark.processes
def test_elsewhere_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = through(os.pipe)
    assert "\x1b" not in shown
    # A line every ten seconds at most: these two came at once after the first.
    assert shown.splitlines() == ["tagging 20 tracks, 5 of them done before; Ctrl-C stops, the same command goes on"]


class Counts:
    num_tracks, num_failed, audio_s = 5, 0, 3600.0


def test_time_left_is_that_of_the_tracks_ahead() -> None:
    with progress.ProgressLine() as line:
        line.starting(20, 5)
        line.started -= 50
        text = line._text(Counts)
    assert text.startswith("10/20 tracks · 60.0 min of audio · 7")
    assert text.endswith("1:40 left")


@pytest.mark.parametrize(("seconds", "said"), [(5, "5 s"), (600, "10.0 min"), (36000, "10.0 h")])
def test_hours(seconds: float, said: str) -> None:
    assert hours(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(5, "0:05"), (65, "1:05"), (3700, "1:01:40")])
def test_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said
