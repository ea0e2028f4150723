"""Flags of ``tag`` and ``plan`` become the settings of the library, and what is not given is left to files."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.verbs.conftest import run
from tonearm.api.flags import tag_settings
from tonearm.heads import HeadSettings


def test_what_was_not_given_is_not_handed_on(given: dict[str, Any]) -> None:
    """A default that was handed on would stand over the file of settings."""
    run("tag music --out labels")
    assert given == {"retry_errors": False, "rescore": (), "as_json": False}


def test_tagging_gets_its_settings(given: dict[str, Any]) -> None:
    run(
        "tag music --out labels --genre-model ./a --tag-model none --head mood=./m:multi --max-windows 3 --workers 2 "
        "--limit 9 --runtime torch --precision bf16 --max-error-rate 0.5 --calibrated --verbose --retry-errors "
        "--rescore genre --json"
    )
    made = {name: given.pop(name) for name in ("retry_errors", "rescore", "as_json")}
    assert made == {"retry_errors": True, "rescore": ["genre"], "as_json": True}
    settings = tag_settings(given)
    assert (settings.max_windows, settings.workers, settings.limit) == (3, 2, 9)
    assert (settings.max_error_rate, settings.verbose) == (0.5, True)
    models = settings.models
    assert (models.genre_model, models.tag_model, models.runtime, models.precision) == ("./a", None, "torch", "bf16")
    assert models.calibrated and models.heads == {"mood": HeadSettings("./m", "multi")}


def test_plan_takes_every_flag_of_tagging(given: dict[str, Any]) -> None:
    run("plan music --calibrated --precision int8 --cpus 4 --cpu-price 0.1")
    assert (given["calibrated"], given["precision"], given["cpus"], given["cpu_price"]) == (True, "int8", 4, 0.1)
