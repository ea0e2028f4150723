"""Histograms hold every track and have ticks that people read."""

from __future__ import annotations

import numpy as np
import pytest

from tonearm.report.pictures import duration_histogram, nice_ticks, score_histogram


def test_pictures_hold_every_track() -> None:
    random = np.random.default_rng(0)
    scores = random.random(5000).astype(np.float32)
    durations = np.append(random.lognormal(5, 1, 5000), 40_000).astype(np.float32)
    for picture in (score_histogram(scores), duration_histogram(durations)):
        counts = [int(bar.text.rpartition(": ")[2].split(" ")[0].replace(",", "")) for bar in picture.bars]
        assert sum(counts) in (5000, 5001)
        tallest = max(zip(counts, picture.bars, strict=True), key=lambda pair: pair[0])
        assert tallest[1].height == max(bar.height for bar in picture.bars)
        for bar in picture.bars:
            assert picture.left <= bar.x and bar.x + bar.width <= picture.right
            assert picture.top <= bar.y and bar.y + bar.height == pytest.approx(picture.bottom)
    assert "the longest 11:06 h" in picture.alt


@pytest.mark.parametrize("durations", [[], [0.0], [0.3], [30.0] * 8, [10_800.0], [1e6]])
def test_durations_of_any_size_make_a_picture(durations: list[float]) -> None:
    picture = duration_histogram(np.array(durations, np.float32))
    assert len(picture.bars) == min(1, len(durations))


@pytest.mark.parametrize("highest", [0, 1, 3, 4, 5, 9, 10, 99, 101, 12_345, 999_999])
def test_ticks_cover_the_highest_count(highest: int) -> None:
    ticks = nice_ticks(highest)
    assert ticks[0] == 0 and ticks[-1] >= highest and 2 <= len(ticks) <= 6
    assert len(set(np.diff(ticks))) == 1
