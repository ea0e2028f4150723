"""A listing of several sources has each object once, and says in one line what cannot be listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.source_files import listed, make, names
from tonearm.errors import SourceError, UsageError
from tonearm.sources.listing import ListingCounts, list_tracks


def test_overlapping_sources_list_each_object_once(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", "b.mp3", "sub/c.mp3")
    refs = listed(tmp_path / "sub", tmp_path, tmp_path / "a.mp3", tmp_path / "*.mp3")
    assert names(refs, tmp_path) == ["sub/c.mp3", "a.mp3", "b.mp3"]
    assert len(listed(tmp_path, tmp_path / "sub", limit=2)) == 2
    with pytest.raises(UsageError, match="limit of 0"):
        listed(tmp_path, limit=0)


@pytest.mark.parametrize("name", ["nowhere", "no\nwhere.mp3"])
def test_missing_source_is_one_line_before_anything_is_listed(tmp_path: Path, name: str) -> None:
    make(tmp_path, "a.mp3")
    stream = list_tracks([str(tmp_path), str(tmp_path / name)])
    with pytest.raises(SourceError, match="no file or folder") as caught:
        next(stream)
    assert "\n" not in caught.value.message


def test_folder_without_audio_names_what_was_skipped(tmp_path: Path) -> None:
    make(tmp_path, *(f"{number}.txt" for number in range(14)), "README")
    with pytest.raises(SourceError, match=r"no audio in .*: 14 \.txt, 1 without an extension skipped"):
        listed(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="it is empty"):
        listed(tmp_path / "empty")
    # one source without audio among others is told, not refused
    make(tmp_path, "music/a.mp3")
    counts = ListingCounts()
    assert len(list(list_tracks([str(tmp_path / "empty"), str(tmp_path / "music")], counts=counts))) == 1
    assert counts.empty == [str(tmp_path / "empty")]


@pytest.mark.parametrize("source", ["http://[::1/x.mp3", "http://a..b/x.mp3", "http://h:abc/x.csv", "http://]/"])
def test_a_malformed_source_is_one_line(source: str) -> None:
    with pytest.raises(SourceError) as caught:
        listed(source)
    assert source in caught.value.message and "\n" not in caught.value.message
