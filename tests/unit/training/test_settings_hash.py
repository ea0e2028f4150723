"""The settings hash changes with what decides the weights, and with nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.labelled import planned, train_settings


@pytest.mark.processes
def test_the_settings_hash_follows_what_decides_the_weights(collection: Path, start: Path, cache: Path) -> None:
    settings = train_settings(start, cache)
    first = planned(collection, settings).settings_hash
    assert planned(collection, dataclasses.replace(settings, workers=2, note="x")).settings_hash == first
    assert planned(collection, dataclasses.replace(settings, learning_rate=2e-3)).settings_hash != first
