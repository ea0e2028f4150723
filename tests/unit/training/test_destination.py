"""A training is refused before it starts where its snapshots would not fit on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tonearm.errors import DestinationError
from tonearm.training import destination
from tonearm.training.destination import check_space


def test_a_disk_without_room_for_two_checkpoints_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_space(tmp_path / "new" / "place", 1000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(destination.shutil, "disk_usage", lambda path: usage._replace(free=2**30))
    with pytest.raises(DestinationError, match=r"snapshots need some 2\.\d GiB and .* has 1\.0 GiB free"):
        check_space(tmp_path, 70_000_000)
