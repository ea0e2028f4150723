"""A library to list again and again, and parts small enough that a few files fill them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.runs.manifest.library import Library
from tonearm.runs.manifest import manifest_merge, manifest_parts


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have parts of four rows, read and written two at a time."""
    monkeypatch.setattr(manifest_parts, "PART_ROWS", 4)
    monkeypatch.setattr(manifest_merge, "PART_ROWS", 4)
    monkeypatch.setattr(manifest_parts, "BATCH_ROWS", 2)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)
