"""Playlists by genre or tag hold each track where it belongs."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.exported import playlist, row, tag
from tests.tables import make_tracks, write_tracks
from tonearm.exports import m3u
from tonearm.exports.export import export


def test_playlists_by_genre_hold_every_ok_track_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m3u, "RUN_ENTRIES", 37)  # so that runs are merged
    make_tracks(tmp_path, 600, error_share=0.1)
    counts = export(str(tmp_path), "m3u", str(tmp_path / "lists"))
    rows = [entry for entry in pq.read_table(tmp_path / "tracks").to_pylist() if entry["status"] == "ok"]
    assert counts.num_tracks == len(rows)
    for genre in {entry["genre"] for entry in rows}:
        entries = playlist(tmp_path / "lists" / f"{genre}.m3u8")
        assert [uri for _, uri in entries] == sorted(entry["uri"] for entry in rows if entry["genre"] == genre)
        assert all(extinf.startswith("#EXTINF:") for extinf, _ in entries)


def test_playlists_by_tag_take_the_tags_from_the_score_on(tmp_path: Path) -> None:
    rows = [
        row(
            1, uri="/a.mp3", duration_s=61.6, artist="Vale", title="Blue", tags=[tag("Rock/Pop", 0.9), tag("Low", 0.2)]
        ),
        row(2, uri="/b.mp3", duration_s=None, artist=None, title=None, tags=[tag("rock:pop", 0.5)]),
        row(3, uri="/c\nd.mp3", artist="New\nline", title="T", tags=[tag("Low", 0.2)]),
    ]
    write_tracks(tmp_path, rows)
    assert export(str(tmp_path), "m3u", str(tmp_path / "a"), by="tag").num_tracks == 2
    assert playlist(tmp_path / "a" / "Rock_Pop.m3u8") == [("#EXTINF:62,Vale - Blue", "/a.mp3")]
    assert playlist(tmp_path / "a" / "rock_pop (2).m3u8") == [("#EXTINF:-1,b", "/b.mp3")]
    export(str(tmp_path), "m3u", str(tmp_path / "b"), by="tag", min_score=0.1)
    assert [uri for _, uri in playlist(tmp_path / "b" / "Low.m3u8")] == ["/a.mp3", "file:///c%0Ad.mp3"]
