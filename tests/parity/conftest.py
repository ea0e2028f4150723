"""Checkpoints that the proofs of parity share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import save_small
from tonearm.models.families import OWN


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small random checkpoint of every family; read only."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {family: save_small(folder / family, family) for family in OWN}
