"""What ``evaluate`` takes as a model or a head, and what it refuses before anything is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

import tonearm
from tonearm.api.flags import tag_settings
from tonearm.api.training import _as_head, _scoring_settings
from tonearm.errors import SettingsError, UsageError
from tonearm.heads import HeadSettings


def test_a_model_is_judged_without_the_heads_of_a_file(file: Path) -> None:
    """``evaluate`` scores one model; the further heads that the file has for tagging are not it."""
    file.write_text(file.read_text() + '[models.heads]\nmood = "moods:multi"\n')
    assert list(tag_settings({"config": file}).models.heads) == ["mood"]
    models = _scoring_settings("judged", {"config": file}).models
    assert (models.genre_model, models.tag_model, dict(models.heads)) == ("judged", None, {})


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
