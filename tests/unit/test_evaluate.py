"""What ``evaluate`` takes as a head, and what it refuses before anything is listed."""

from __future__ import annotations

import pytest

import tonearm
from tonearm.api.training import _as_head, _scoring_settings
from tonearm.cli.app import app
from tonearm.errors import SettingsError, UsageError
from tonearm.heads import HeadSettings


def test_a_model_is_judged_as_the_head_that_it_is_given_as() -> None:
    settings = _as_head(_scoring_settings("folder", {}), "mood", HeadSettings.parse("folder:multi", "--head"), None)
    assert (settings.models.genre_model, settings.models.tag_model) == (None, None)
    assert settings.models.heads == {"mood": HeadSettings("folder", "multi")}


@pytest.mark.parametrize(
    ("model", "named", "error", "message"),
    [
        ("m:embedding", {"head": "mood"}, UsageError, "--head mood of the kind embedding, which says nothing of lab"),
        ("m:single", {"head": "mood", "multi_label": True}, UsageError, "--multi-label for --head mood of the kind si"),
        ("m:multi", {"head": "Mood"}, SettingsError, "got a head called 'Mood', expected a name"),
        ("m:several", {"head": "mood"}, SettingsError, "got 'several' behind the colon"),
    ],
)
def test_a_head_that_cannot_be_judged_is_refused(
    model: str, named: dict[str, object], error: type[UsageError], message: str
) -> None:
    with pytest.raises(error, match=message):
        tonearm.evaluate(model, "nowhere", **named)  # type: ignore[arg-type]


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
