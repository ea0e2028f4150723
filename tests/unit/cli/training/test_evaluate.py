"""``tonearm evaluate`` takes a model, or a head in its place, and never both."""

from __future__ import annotations

import pytest

from tonearm.cli.app import app
from tonearm.errors import UsageError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model"], "got MODEL model and no SOURCE"),
        (["model", "sounds", "--head", "mood=folder:multi"], "got MODEL model together with --head mood=folder:multi"),
        (["sounds", "--head", "mood"], "got --head 'mood', expected NAME=MODEL"),
        (["/nowhere/sounds", "--head", "mood=folder:multi"], "no file or folder /nowhere/sounds"),
    ],
)
def test_a_head_stands_in_the_place_of_a_model(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        app(["evaluate", *arguments], standalone_mode=False)
