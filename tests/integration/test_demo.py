"""The synthesized library and the models trained on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.commands import read_tracks, tonearm
from tonearm.audio.decode import decode_waveform
from tonearm.demo.library import ENCODINGS, write_library
from tonearm.demo.songs import GENRES, TAGS, compose


def test_one_seed_gives_one_song() -> None:
    first, again, other = compose("jazz", 4, 6.0), compose("jazz", 4, 6.0), compose("jazz", 5, 6.0)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.samples.shape != other.samples.shape or not np.allclose(first.samples, other.samples)


@pytest.mark.parametrize("genre", GENRES)
def test_songs_are_music_not_silence_or_noise(genre: str) -> None:
    song = compose(genre, 11, 12.0)
    samples = song.samples
    assert np.isfinite(samples).all()
    assert 0.5 < np.abs(samples).max() <= 1
    assert np.sqrt(np.square(samples).mean()) > 0.02
    tags = song.tags_between(0, 12)
    assert len(tags) >= 3 and set(tags) <= set(TAGS)
    spectrum = np.square(np.abs(np.fft.rfft(samples.mean(axis=0))))
    flatness = np.exp(np.log(spectrum + 1e-12).mean()) / spectrum.mean()
    assert flatness < 0.1  # noise has about 0.56


def test_the_library_is_real_files_of_many_kinds(tmp_path: Path) -> None:
    tracks = write_library(tmp_path, num_tracks=len(ENCODINGS), seed=2, min_s=5, max_s=6)
    assert len(GENRES) >= 8
    seen = Counter()
    for track in tracks:
        waveform, info = decode_waveform(track.path.read_bytes(), 16000)
        assert (info.title, info.artist) == (track.title, track.artist), track.path.name
        assert info.duration_s == pytest.approx(track.duration_s, abs=0.1)
        assert (info.sample_rate, info.channels) == (track.encoding.sample_rate, track.encoding.channels)
        assert np.abs(waveform).max() > 0.1
        seen[track.encoding.extension] += 1
    assert set(seen) == {"wav", "flac", "mp3", "ogg", "opus", "m4a"}
    assert {track.encoding.sample_rate for track in tracks} >= {8000, 44100, 96000}
    assert {track.encoding.channels for track in tracks} == {1, 2}


@pytest.mark.slow
def test_the_demo_labels_songs_it_has_not_heard(tmp_path: Path) -> None:
    """The built-in models label songs of another seed as the synthesizer meant them."""
    library, out = tmp_path / "library", tmp_path / "out"
    run = tonearm("demo", "--library", library, "--out", out, "--tracks", "18", "--seed", "77")
    assert run.returncode == 0, run.stderr
    truths = dict(line.rsplit(",", 1) for line in (library / "labels.txt").read_text().splitlines()[1:])
    rows = {row["uri"]: row for row in read_tracks(out).to_pylist()}
    right = sum(rows[str(library / path)]["genre"] == genre for path, genre in truths.items())
    assert right >= 0.9 * len(truths)
    assert f"{right} of 18 genres are what the synthesizer wrote" in run.stdout
    assert f"report: {out}/report.html" in run.stdout
    assert "know only synthesized music" in run.stderr
    again = tonearm("demo", "--library", library, "--out", out, "--tracks", "18", "--seed", "77")
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout


def test_a_seed_writes_the_same_library(tmp_path: Path) -> None:
    first, again = (
        write_library(tmp_path / name, num_tracks=len(ENCODINGS), seed=9, min_s=3, max_s=4) for name in ("a", "b")
    )
    for one, other in zip(first, again, strict=True):
        assert one.path.relative_to(tmp_path / "a") == other.path.relative_to(tmp_path / "b")
        # Not the bytes: Ogg gives every stream a random number.
        (left, info), (right, same) = (decode_waveform(track.path.read_bytes(), 16000) for track in (one, other))
        np.testing.assert_array_equal(left, right)
        assert info == same
