"""A library of rows that a report is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tables import make_tracks


@pytest.fixture(scope="package")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a destination of 3,000 tracks, some of them failed."""
    folder = tmp_path_factory.mktemp("library")
    make_tracks(folder, 3000, seed=7)
    return folder
