"""The command: its groups, what it shows when it is given nothing, completion, and how little it loads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from tests.commands import environment
from tests.unit.cli.shown_help import shown
from tonearm.cli.app import app
from tonearm.cli.reference import verbs


@pytest.mark.parametrize("group", [[], ["keys"]], ids=["tonearm", "keys"])
def test_a_bare_command_shows_the_help(group: list[str]) -> None:
    assert shown(*group) == shown(*group, "--help")


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
