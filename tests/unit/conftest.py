"""Fixtures of several unit tests."""

from __future__ import annotations

import os
import sys

import pytest


@pytest.fixture
def own_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test variables and a search path that it may change."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in ("RAY_TMPDIR", "RAY_ADDRESS", "XDG_CACHE_HOME"):
            del os.environ[name]
    monkeypatch.setattr(sys, "path", [*sys.path])
