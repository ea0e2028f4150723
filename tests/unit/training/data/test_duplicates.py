"""Copies across a split are found however they were encoded, cut or levelled; other takes are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tonearm.audio.windows import WindowPlan
from tonearm.demo.library import Encoding, encode
from tonearm.demo.songs import RATE, compose
from tonearm.settings import TrainSettings
from tonearm.sources.listing import list_tracks
from tonearm.training.data.clips import open_clips
from tonearm.training.data.collection import ClipId
from tonearm.training.data.duplicates import (
    NUM_NEIGHBOURS,
    AcousticFingerprints,
    Duplicate,
    count_by_side,
    find_duplicates,
)

pytestmark = pytest.mark.processes

PLAN = WindowPlan(16000, 160_000, 160_000, 4, 400)


def song(genre: str, seed: int) -> NDArray[np.float32]:
    return compose(genre, seed, 12.0).samples.mean(axis=0)


def duplicates_in(folder: Path) -> dict[str, Duplicate]:
    """Return the pairs of a file whose name begins with ``held`` and its copy, by the names of the two."""
    refs = {ClipId(ref.track_key): ref for ref in list_tracks([str(folder)])}
    clips = open_clips([refs], PLAN, TrainSettings(cache=str(folder / "cache")), num_threads=2)
    names = {clip: Path(ref.uri).stem for clip, ref in refs.items()}
    sides = {
        "train": [clip for clip, name in names.items() if not name.startswith("held")],
        "test": [clip for clip, name in names.items() if name.startswith("held")],
    }
    pairs = find_duplicates(AcousticFingerprints(clips), sides)
    return {f"{names[pair.held_out]} = {names[pair.trained_on]}": pair for pair in pairs}


def test_copies_are_found_and_other_songs_are_not(tmp_path: Path) -> None:
    for genre in ("rock", "jazz", "folk"):
        for seed in range(3):
            soundfile.write(tmp_path / f"{genre} {seed}.wav", song(genre, seed), RATE)
            soundfile.write(tmp_path / f"held {genre} {seed + 10}.wav", song(genre, seed + 10), RATE)
    original = song("rock", 0)
    soundfile.write(tmp_path / "held same.wav", original, RATE)
    soundfile.write(tmp_path / "held quiet.wav", 0.2 * original, RATE)
    soundfile.write(tmp_path / "held cut.flac", original[3 * RATE : 10 * RATE], RATE)
    encode(tmp_path / "held lossy.mp3", song("jazz", 1)[None], Encoding("mp3", "mp3", 22050, 1), {})
    found = duplicates_in(tmp_path)
    assert set(found) == {
        "held same = rock 0", "held quiet = rock 0", "held cut = rock 0", "held lossy = jazz 1"
    }  # fmt: skip
    assert found["held same = rock 0"].is_exact
    assert not found["held lossy = jazz 1"].is_exact


def test_every_copy_in_training_is_found(tmp_path: Path) -> None:
    """Of one held-out clip: copies with its samples and levelled ones, more than are looked at in one go."""
    original = song("rock", 0)[: 4 * RATE]
    soundfile.write(tmp_path / "held rock.wav", original, RATE)
    for number in range(3):
        soundfile.write(tmp_path / f"same {number}.wav", original, RATE)
    for number in range(NUM_NEIGHBOURS + 3):
        soundfile.write(tmp_path / f"level {number}.wav", (0.9 - 0.05 * number) * original, RATE)
    for seed in range(3):
        soundfile.write(tmp_path / f"jazz {seed}.wav", song("jazz", seed)[: 4 * RATE], RATE)
    found = duplicates_in(tmp_path)
    wanted = [f"same {number}" for number in range(3)] + [f"level {number}" for number in range(NUM_NEIGHBOURS + 3)]
    assert set(found) == {f"held rock = {name}" for name in wanted}
    assert sum(pair.is_exact for pair in found.values()) == 3
    assert count_by_side(list(found.values())) == {"test": (1, 0)}


def test_silent_clips_are_not_copies_of_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "held c"):
        soundfile.write(tmp_path / f"{name}.wav", 1e-4 * rng.normal(size=RATE), RATE)
    assert not duplicates_in(tmp_path)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_side_without_clips_has_no_copies(tmp_path: Path, missing: str) -> None:
    soundfile.write(tmp_path / ("held a.wav" if missing == "train" else "a.wav"), song("rock", 0), RATE)
    assert not duplicates_in(tmp_path)
