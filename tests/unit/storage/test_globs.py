"""Globs match as a shell's do, also where a folder's own name holds brackets."""

from __future__ import annotations

from pathlib import Path

import fsspec
import hypothesis
import hypothesis.strategies as st
import pytest

from tests.source_files import listed, make, names
from tonearm.errors import SourceError
from tonearm.storage import globs


def test_glob_matches_like_a_shell_and_takes_whole_folders(tmp_path: Path) -> None:
    make(
        tmp_path,
        "rock/a.mp3",
        "rock/live/b.mp3",
        "rockabilly/c.mp3",
        "jazz/d.mp3",
        "jazz/e.flac",
        "jazz/f.txt",
        "g.mp3",
    )
    assert names(listed(tmp_path / "rock*"), tmp_path) == ["rock/a.mp3", "rock/live/b.mp3", "rockabilly/c.mp3"]
    assert names(listed(tmp_path / "*/*.mp3"), tmp_path) == ["jazz/d.mp3", "rock/a.mp3", "rockabilly/c.mp3"]
    assert names(listed(tmp_path / "**/*.flac"), tmp_path) == ["jazz/e.flac"]
    assert names(listed(tmp_path / "[a-j]*/?.mp3"), tmp_path) == ["jazz/d.mp3"]
    with pytest.raises(SourceError, match="nothing matches"):
        listed(tmp_path / "*.ogg")


def test_a_folder_may_be_named_like_a_glob(tmp_path: Path) -> None:
    make(tmp_path, "[2001] Album/01 a.mp3", "[2001] Album/[02] b.mp3", "1 Album/c.mp3", "[Live]/[2001] Album/d.mp3")
    store = fsspec.filesystem("memory")
    for path in tmp_path.rglob("*.mp3"):
        store.pipe_file(str(path), b"x")
    for place in (str(tmp_path), f"memory:/{tmp_path}"):

        def of(pattern: str, place: str = place) -> list[str]:
            return [ref.uri.partition(f"{tmp_path.name}/")[2] for ref in listed(f"{place}/{pattern}")]

        assert of("[2001] Album/*.mp3") == ["[2001] Album/01 a.mp3", "[2001] Album/[02] b.mp3"]
        # A name that is a pattern too is taken in both ways where it cannot be looked up.
        assert of("[2001] Album/[02]*") == ["[2001] Album/01 a.mp3", "[2001] Album/[02] b.mp3"]
        assert of("[0-9] Album/*.mp3") == ["1 Album/c.mp3"]
        assert of("[Live]/[2001] Album/*") == ["[Live]/[2001] Album/d.mp3"]
        assert of("*/[2001] Album/*") == ["[Live]/[2001] Album/d.mp3"]
        assert of("[Live]") == ["[Live]/[2001] Album/d.mp3"]


@hypothesis.given(
    st.lists(st.text("[]!-*?az/.\\^", max_size=8), min_size=1, max_size=4), st.text("[]!-*?az/.", max_size=12)
)
def test_no_pattern_is_an_error(parts: list[str], path: str) -> None:
    pattern = "/".join(parts)
    globs.glob_matcher(pattern)(path)
    folder, rest = globs.split_glob(pattern, lambda folder: len(folder) % 2 == 0)
    assert folder + rest == pattern
