"""Synthesized songs: the same for the same seed, of every genre, with the true times of their tags."""

from __future__ import annotations

import numpy as np
import pytest

from tonearm.demo.songs import GENRES, RATE, TAGS, Song, compose


def test_the_same_seed_gives_the_same_samples() -> None:
    first, same, other = (compose("jazz", seed, 2.0) for seed in (1, 1, 2))
    assert np.array_equal(first.samples, same.samples)
    assert not np.array_equal(first.samples, other.samples)


@pytest.mark.parametrize("genre", GENRES)
def test_a_song_is_stereo_audible_and_not_clipped(genre: str) -> None:
    song = compose(genre, 3, 2.0)
    assert song.genre == genre and song.samples.dtype == np.float32
    assert song.samples.shape == (2, 2 * RATE)
    assert 0.05 < np.abs(song.samples).max() <= 1.0
    assert set(song.spans) <= set(TAGS)


def test_a_tag_counts_where_it_sounds_for_a_second() -> None:
    song = Song("rock", np.zeros((2, 1), np.float32), {"Drum": [(0.0, 4.0)], "Guitar": [(3.5, 6.0)]})
    assert song.tags_between(0.0, 4.0) == {"Drum"}
    assert song.tags_between(3.0, 6.0) == {"Drum", "Guitar"}
    assert song.tags_between(3.5, 4.0) == {"Drum", "Guitar"}, "half of a stretch that is shorter than that"
