"""The table that ``tonearm demo`` prints: each song that is there, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tables import make_row, write_listing, write_tracks
from tonearm.cli import demo


def test_the_table_shows_each_listed_song_once_with_the_row_that_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, random = tmp_path / "library", np.random.default_rng(0)
    library.mkdir()
    (library / "labels.txt").write_text("path,genre\na.mp3,jazz\nb.mp3,rock\n")
    song, gone = (
        make_row(key, random, track_key=key, uri=str(library / name), title=f"Song {name}", genre="rock", term=1)
        for key, name in enumerate(("a.mp3", "b.mp3"))
    )
    write_tracks(tmp_path, [song, gone], name="a.parquet")
    write_tracks(tmp_path, [song | {"genre": "jazz", "term": 2}], name="0.parquet")
    write_listing(tmp_path, [song])
    demo._print_table(library, tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("Song a.mp3") == 1 and "Song b.mp3" not in printed
    assert "1 of 1 genre is what the synthesizer wrote" in printed
