"""Marks are kept for a rerun, and Ray Data filters no source by them."""

from __future__ import annotations

from pathlib import Path

from pyarrow.fs import LocalFileSystem

from tonearm.distributed.tagging.marks import MarksOnly, checkpoint_config
from tonearm.runs.places import KEY


def test_marks_stay_after_success_and_filter_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "marks"
    config = checkpoint_config(LocalFileSystem(), str(folder))
    assert folder.is_dir()
    assert (config.id_column, config.delete_checkpoint_on_success) == (KEY, False)
    assert config.checkpoint_manager_cls is MarksOnly
    assert MarksOnly.load_checkpoint(object.__new__(MarksOnly)) == (None, 0)
