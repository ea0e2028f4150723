"""Which names are audio, which a system has written, and which a person may name whatever they are called."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import fsspec

from tests.source_files import listed, make, names
from tonearm.sources.listing import ListingCounts, list_tracks

SYSTEM_FILES = [".git/b.mp3", "._a.mp3", ".DS_Store", "@eaDir/a.mp3/c.mp3", "__MACOSX/a.mp3", ".Trash-1000/files/a.mp3"]


DOTTED = [
    "...And Justice for All/01 Blackened.flac",
    "...Baby One More Time.mp3",
    ".45.mp3",
    ".38 Special/a.mp3",
    "..mp3.mp3",
]


def test_what_systems_write_is_counted_and_not_taken(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", *SYSTEM_FILES)
    counts = ListingCounts()
    assert names(list(list_tracks([str(tmp_path)], counts=counts)), tmp_path) == ["a.mp3"]
    assert counts.skipped == Counter({"(written by a system)": len(SYSTEM_FILES)})


def test_names_that_begin_with_dots_are_music(tmp_path: Path) -> None:
    make(tmp_path, *DOTTED)
    assert sorted(names(listed(tmp_path), tmp_path)) == sorted(DOTTED)
    store = fsspec.filesystem("memory")
    for name in (*DOTTED, *SYSTEM_FILES):
        store.pipe_file(f"/{tmp_path.name}/{name}", b"x")
    counts = ListingCounts()
    refs = list(list_tracks([f"memory://{tmp_path.name}"], counts=counts))
    assert sorted(ref.uri.partition(f"{tmp_path.name}/")[2] for ref in refs) == sorted(DOTTED)
    assert counts.skipped == Counter({"(written by a system)": len(SYSTEM_FILES)})


def test_single_names_need_no_audio_extension(tmp_path: Path) -> None:
    make(tmp_path, "take-7", "dump.xyz", "cover.jpg")
    assert names(listed(tmp_path / "take-7", tmp_path / "dump.xyz", tmp_path / "cover.jpg"), tmp_path) == [
        "take-7",
        "dump.xyz",
    ]
