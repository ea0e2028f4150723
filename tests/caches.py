"""A cache of models for some tests alone."""

from __future__ import annotations

from pathlib import Path

import pytest


def keep_in(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have models kept in ``folder``, and looked for nowhere else: what is in the user's own cache counts too."""
    patch.setenv("TONEARM_CACHE", str(folder))
    patch.setenv("XDG_CACHE_HOME", str(folder))
