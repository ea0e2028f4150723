"""``--help`` at 80 columns: headings, whole summaries, no line too long."""

from __future__ import annotations

import pytest

from tests.unit.cli.shown_help import WIDTH, shown
from tonearm.cli.reference import verbs

HEADINGS = ["Label:", "Results:", "Models:", "Serve:", "Set-up:"]


NAMES = [path.split()[1:] for path, _ in verbs()]


@pytest.mark.parametrize("words", [[], *NAMES], ids=" ".join)
def test_no_line_is_too_long_or_cut(words: list[str]) -> None:
    text = shown(*words, "--help")
    assert max(map(len, text.splitlines())) <= WIDTH
    for usage in ("SOURCE...", "[ARGS]..."):
        text = text.replace(usage, "")
    assert "..." not in text and "…" not in text


def test_verbs_stand_under_headings_with_their_whole_summary() -> None:
    lines = shown("--help").splitlines()
    assert [line for line in lines if line in HEADINGS] == HEADINGS
    for path, command in verbs():
        summary = (command.help or "").strip().splitlines()[0].rstrip(".")
        if len(path.split()) == 2:
            assert f"  {command.name:10}{summary}" in lines


def test_arguments_and_options_say_what_they_take() -> None:
    """RUN is what tagging writes and MODEL what training writes; DEST, which was both, is nowhere."""
    assert "Usage: tonearm tag [OPTIONS] SOURCE...\n" in shown("tag", "--help")
    assert "--out RUN " in shown("tag", "--help") and "--out MODEL " in shown("train", "--help")
    assert "Usage: tonearm publish [OPTIONS] MODEL REPO\n" in shown("publish", "--help")
    for words in NAMES:
        assert "DEST" not in shown(*words, "--help")
