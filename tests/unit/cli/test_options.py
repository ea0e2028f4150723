"""Options are the settings' fields: a wrong choice is refused with the right ones."""

from __future__ import annotations

import sys

import pytest

from tonearm import cli
from tonearm.cli.options import choices, settings
from tonearm.settings import Precision, ServeSettings, TagSettings


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("tag music --precision fp23", "got 'fp23', expected one of 'auto', 'fp32', 'bf16', 'fp16', 'int8'"),
        ("train sounds --out m --duplicates keep", "got 'keep', expected one of 'report', 'drop', 'ignore'"),
        ("train sounds --out m --precision int8", "got 'int8', expected one of 'auto', 'fp32', 'bf16', 'fp16'"),
        ("serve --engine spark", "got 'spark', expected one of 'auto', 'process', 'ray'"),
    ],
)
def test_a_wrong_choice_is_status_2_and_lists_the_choices(
    command: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tonearm", *command.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and len(said.splitlines()) == 1
    assert says in said and f"tonearm {command.split()[0]} --help" in said


def test_options_are_made_of_the_fields() -> None:
    """Of a setting's type, choices, and whether there are several of it."""
    assert choices(Precision) == ("auto", "fp32", "bf16", "fp16", "int8")
    assert [option.keyword for option in settings(TagSettings, "limit", "workers")] == ["limit", "workers"]
    names = {option.keyword for option in settings(ServeSettings)}
    assert {"host", "allow_uris", "engine", "verbose"} <= names
