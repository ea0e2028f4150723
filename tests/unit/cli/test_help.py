"""``--help`` at 80 columns: headings, whole summaries, no line too long; fast, and with status 0 for a bare command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from tests.commands import environment
from tonearm.cli.app import app
from tonearm.cli.reference import verbs

WIDTH = 80
HEADINGS = ["Label:", "Results:", "Models:", "Serve:", "Set-up:"]
NAMES = [path.split()[1:] for path, _ in verbs()]


def shown(*words: str) -> str:
    run = CliRunner().invoke(app, list(words), prog_name="tonearm", env={"COLUMNS": str(WIDTH)})
    assert run.exit_code == 0, run.output
    return run.output


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


@pytest.mark.parametrize("group", [[], ["keys"]], ids=["tonearm", "keys"])
def test_a_bare_command_shows_the_help(group: list[str]) -> None:
    assert shown(*group) == shown(*group, "--help")


def test_arguments_and_options_say_what_they_take() -> None:
    """RUN is what tagging writes and MODEL what training writes; DEST, which was both, is nowhere."""
    assert "Usage: tonearm tag [OPTIONS] SOURCE...\n" in shown("tag", "--help")
    assert "--out RUN " in shown("tag", "--help") and "--out MODEL " in shown("train", "--help")
    assert "Usage: tonearm publish [OPTIONS] MODEL REPO\n" in shown("publish", "--help")
    for words in NAMES:
        assert "DEST" not in shown(*words, "--help")


@pytest.mark.processes
def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tonearm.cli import main\nsys.argv = ['tonearm', 'tag', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'ray', 'pyarrow', 'numpy', 'transformers', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert run.returncode == 0, run.stderr


def options() -> Iterator[tuple[str, str, list[str]]]:
    for path, command in verbs():
        for given in command.params:
            metavar = getattr(given, "metavar", None) or ""
            if "|" in metavar:
                yield path, given.opts[0], metavar.split("|")


@pytest.mark.parametrize(("path", "flag", "values"), list(options()), ids=lambda value: str(value))
def test_choices_are_completed(path: str, flag: str, values: list[str]) -> None:
    line = f"{path} {flag} "
    run = CliRunner().invoke(
        app,
        prog_name="tonearm",
        env={"_TONEARM_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line},
    )
    assert all(value in run.output for value in values), run.output


def test_there_are_choices_to_complete() -> None:
    assert {flag for _, flag, _ in options()} >= {"--runtime", "--precision", "--duplicates", "--engine", "--tracker"}


def test_groups_have_their_own_help() -> None:
    assert isinstance(typer.main.get_command(app).commands["keys"].commands["new"], typer.core.TyperCommand)  # type: ignore[attr-defined]
