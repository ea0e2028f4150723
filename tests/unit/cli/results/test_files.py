"""``report``, ``export`` and ``compact`` say what they have written, and how much was left out."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tonearm.cli.results.files import compact, export, report
from tonearm.runs.manifest import manifest


def export_csv(out: Path, *, all_versions: bool) -> int:
    place = str(out.parent / "tracks.csv")
    return export(
        str(out), place, format=None, options={}, named=[], where=None, all_versions=all_versions, overwrite=True
    )


def test_a_report_is_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(str(out)) == 0
    assert capsys.readouterr().out == f"{out}/report.html\n" and (out / "report.html").is_file()


def test_an_export_counts_what_it_wrote_and_what_it_left_out(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_csv(out, all_versions=False) == 0
    assert capsys.readouterr().out == f"{out.parent}/tracks.csv: 3 tracks in 1 file\n"
    listed = out.parent / "music.csv"
    listed.write_text("uri\ns3://records/0.mp3\n")
    manifest.write_manifest([str(listed)], str(out / "manifest"))
    assert export_csv(out, all_versions=False) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 track in 1 file" in said and "2 tracks that are no longer listed; --all-versions takes them too" in said
    assert export_csv(out, all_versions=True) == 0
    assert "3 tracks in 1 file" in capsys.readouterr().out


def test_a_second_compaction_has_nothing_to_do(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = (out / "tracks").iterdir()
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 1), path)
    pq.write_table(table.slice(1), path.with_name("other.parquet"))
    for says in ("3 rows of 2 files are in 1 now, sorted by key", "nothing to do:"):
        assert compact(str(out)) == 0
        assert says in " ".join(capsys.readouterr().out.split())
