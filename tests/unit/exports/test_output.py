"""An output that is taken stays as it is unless it may be overwritten, and a failed export leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exported import read_csv, row
from tests.tables import damage, make_tracks, write_tracks
from tonearm.errors import DestinationError
from tonearm.exports.export import export


def test_a_taken_output_is_kept_unless_overwritten(tmp_path: Path) -> None:
    make_tracks(tmp_path, 5)
    (tmp_path / "t.csv").write_text("mine")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "mine.txt").write_text("mine")
    for kind, output in (("csv", "t.csv"), ("m3u", "lists")):
        with pytest.raises(DestinationError, match=r"exists already and is not empty.*--overwrite"):
            export(str(tmp_path), kind, str(tmp_path / output))
    assert (tmp_path / "t.csv").read_text() == "mine"
    export(str(tmp_path), "csv", str(tmp_path / "t.csv"), overwrite=True)
    assert len(read_csv(tmp_path / "t.csv")) == 5
    export(str(tmp_path), "m3u", str(tmp_path / "lists"), overwrite=True)
    assert (tmp_path / "lists" / "mine.txt").read_text() == "mine"
    for kind, output in (("csv", "lists"), ("m3u", "t.csv")):
        with pytest.raises(DestinationError, match=r"expected the name of a (file|folder)"):
            export(str(tmp_path), kind, str(tmp_path / output), overwrite=True)


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    make_tracks(tmp_path, 3000)
    write_tracks(tmp_path, [row(1)], name="zz.parquet")
    damage(tmp_path / "tracks" / "zz.parquet", "status")
    with pytest.raises(DestinationError, match="zz"):
        export(str(tmp_path), "csv", str(tmp_path / "out" / "t.csv"), all_versions=True)
    assert list((tmp_path / "out").iterdir()) == []
