"""Models that ``tonearm models add`` knows by name are those that heads know by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.errors import CheckpointError
from tonearm.models.exported.named_models import NAMED
from tonearm.models.musicnn import named


def test_whatever_can_be_added_is_known_by_its_name() -> None:
    assert set(NAMED) == set(named.NAMES)
    assert all(named.is_named(name) for name in NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_adding_takes_the_file_that_was_given(name: str, tmp_path: Path) -> None:
    (tmp_path / "other.whl").write_bytes(b"another file")
    with pytest.raises(CheckpointError, match=r"other\.whl has the SHA-256"):
        NAMED[name](name, tmp_path / "other.whl")
