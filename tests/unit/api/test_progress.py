"""The progress line: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest
from rich.console import Console

from tonearm.api import progress

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
    assert shown.splitlines() == ["tagging 20 tracks, 5 of them done before; Ctrl-C stops, the same command resumes"]


class Counts:
    num_tracks, num_failed, audio_s = 5, 0, 3600.0


def test_time_left_is_that_of_the_tracks_ahead() -> None:
    with progress.ProgressLine() as line:
        line.starting(20, 5)
        line.started -= 50
        text = line._text(Counts)
    assert text.startswith("10/20 tracks · 60.0 min of audio · 7")
    assert text.endswith("1:40 left")


class ManyCounts:
    """Counts of a large library, whose line is a long one."""

    num_tracks, num_failed, audio_s = 1_234_567, 12_345, 3.6e9


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_live_line_fits_the_terminal(width: int) -> None:
    """However large the numbers, the line and its bar are one line; the time left is said even where it is narrow."""
    with progress.ProgressLine() as line:
        line.console = Console(file=io.StringIO(), force_terminal=True, width=width, record=True)
        line.num_tracks = 10_000_000
        line.started -= 50_000
        text = line._text(ManyCounts, progress.line_width(line.console))
        line.console.print(progress.with_bar(text, 1_234_567, line.num_tracks, line.console))
        (shown,) = line.console.export_text().splitlines()
    assert len(shown) <= width and text in shown
    assert text.startswith("1,234,567/10,000,000") and text.endswith("left")


def test_sentences_are_broken_between_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A note that is wider than the terminal loses nothing, and no word is torn."""
    note = "waiting for process 4711 on host-with-a-long-name.example, at work on s3://records/labels since 12:30 UTC"
    progress.print_prose(note, Console(force_terminal=True, width=60))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and max(map(len, lines)) < 60 and " ".join(lines) == note
