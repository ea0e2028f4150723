"""Label tracks for Audacity: one file per track, with its timeline merged where neighbours agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.exported import row, window
from tests.tables import make_error, write_tracks
from tonearm.exports.audacity import Label, track_labels
from tonearm.exports.export import export


def test_labels_merge_neighbours_and_leave_gaps() -> None:
    windows = [
        window(30, 60, "jazz", Piano=0.4),
        window(0, 30, "jazz", Piano=0.9, Speech=0.6),
        window(60, 90, "rock", Piano=0.7),
        window(200, 230, "rock", Piano=0.8),
    ]
    assert track_labels(windows, 0.5) == [
        Label(0, 60, "jazz"),
        Label(0, 30, "Piano"),
        Label(0, 30, "Speech"),
        Label(60, 90, "rock"),
        Label(60, 90, "Piano"),
        Label(200, 230, "rock"),
        Label(200, 230, "Piano"),
    ]
    assert Label(0, 90, "Piano") in track_labels(windows, 0.4)


def test_labels_of_genres_never_overlap() -> None:
    shifted_back = [window(0, 30, "jazz"), window(30, 60, "jazz"), window(42.5, 72.5, "rock")]
    assert track_labels(shifted_back, 0.5) == [Label(0, 60, "jazz"), Label(60, 72.5, "rock")]


def test_audacity_files_hold_the_timeline_and_collide_never(tmp_path: Path) -> None:
    rows = [
        row(1, uri="/a/Blue.mp3", windows=[window(0, 10.24, "jazz", Piano=0.9), window(10.24, 12, "jazz")]),
        row(2, uri="/b/blue.flac", windows=[window(0, 9, "odd\tname\nhere")]),
        row(3, uri='s3://x/What? "Yes".ogg', windows=[window(0, 9, None, Choir=0.75)]),
        row(4, uri="/c/silent.wav", windows=[window(0, 9, None, Choir=0.1)]),
        make_error(5, np.random.default_rng(5)),
    ]
    write_tracks(tmp_path, rows)
    counts = export(str(tmp_path), "audacity", str(tmp_path / "labels"))
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "labels").iterdir()}
    assert counts.num_tracks == len(files) == 3
    assert sorted(name.split(" [")[0].casefold() for name in files) == ["blue", "blue", "what_ _yes_.txt"]
    assert len({name.casefold() for name in files}) == 3
    (blue,) = (text for name, text in files.items() if name.startswith("Blue"))
    assert blue == "0.000000\t12.000000\tjazz\n0.000000\t10.240000\tPiano\n"
    for text in files.values():
        for line in text.splitlines():
            start_s, end_s, label = line.split("\t")
            assert 0 <= float(start_s) < float(end_s) and label
