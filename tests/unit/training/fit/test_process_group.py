"""A training without Ray is a group of one process, whose last snapshot is its folder."""

from __future__ import annotations

from pathlib import Path

from tonearm.training.fit.process_group import SingleProcess
from tonearm.training.fit.snapshot import STATE


def test_a_group_of_one_process_returns_its_own_values(tmp_path: Path) -> None:
    group = SingleProcess(tmp_path)
    assert (group.rank, group.size) == (0, 1)
    assert group.mean(0.5) == 0.5
    assert group.gather("value") == ["value"]
    group.tell({"kind": "step"})
    assert group.events == [{"kind": "step"}]


def test_a_snapshot_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    group, written = SingleProcess(tmp_path / "run"), tmp_path / "written"
    written.mkdir()
    group.save({}, None)
    assert group.last_snapshot() is None, "nothing was saved yet"
    for content in (b"first", b"second"):
        (written / STATE).write_bytes(content)
        group.save({}, written)
        folder = group.last_snapshot()
        assert folder is not None and (folder / STATE).read_bytes() == content
