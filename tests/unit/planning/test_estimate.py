"""The hours, the money and the failures that are to be expected, each with an interval that holds the truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tonearm.audio.readers.container import AudioInfo
from tonearm.planning.estimate import (
    Estimate,
    FallbackEstimate,
    Machines,
    Prices,
    estimate,
    read_estimate,
    write_estimate,
)
from tonearm.planning.measure import Rates
from tonearm.planning.sample import Listed, SampledTrack, failing_examples
from tonearm.runs.destination import Destination
from tonearm.sources.listing import TrackRef, make_ref
from tonearm.tagging import FallbackPlan, HeadPlan


def known(number: int, size: int, seconds: float | None, kind: str = "mp3") -> SampledTrack:
    ref = make_ref(f"s3://b/{number}.{kind}", size)
    return (
        SampledTrack(ref, AudioInfo(seconds, 44100, 2, kind))
        if seconds is not None
        else SampledTrack(ref, None, "not_audio")
    )


def listed_of(looks: list[SampledTrack], sample: list[SampledTrack]) -> Listed:
    by_extension: dict[str, tuple[int, int]] = {}
    for each in looks:
        kind = f".{each.ref.uri.rpartition('.')[2]}"
        count, size = by_extension.get(kind, (0, 0))
        by_extension[kind] = (count + 1, size + (each.ref.size_bytes or 0))
    refs: tuple[TrackRef, ...] = tuple(each.ref for each in sample)
    total = sum(size for _, size in by_extension.values())
    return Listed(len(looks), total, 0, {}, by_extension, refs)


def estimated(
    looks: list[SampledTrack], sample: list[SampledTrack], plans: dict[str, HeadPlan], **changes: object
) -> Estimate:
    values: dict[str, object] = {
        "rates": Rates(500.0, 20.0),
        "machines": Machines(16.0, 2, 14.0, 2, is_shared=False),
        "prices": Prices(0.05, 2.0),
        **changes,
    }
    return estimate(listed_of(looks, sample), sample, [], plans, **values)  # type: ignore[arg-type]


def test_the_interval_holds_the_truth(plans: dict[str, HeadPlan]) -> None:
    """Two formats whose bytes weigh differently, a twentieth that does not decode: 95% means about 95%."""
    random = np.random.default_rng(0)
    looks = []
    for number in range(3000):
        seconds = float(random.lognormal(5.3, 0.4))
        flac = number % 4 == 0
        size = int(seconds * (110_000 if flac else random.choice([16_000, 24_000, 40_000])))
        looks.append(known(number, size, None if number % 20 == 7 else seconds, "flac" if flac else "mp3"))
    truth = sum(each.info.duration_s for each in looks if each.info)
    num_held, widths = 0, []
    for seed in range(200):
        sample = [looks[place] for place in np.random.default_rng(seed).choice(3000, 200, replace=False)]
        found = estimated(looks, sample, plans)
        num_held += found.audio_low_s <= truth <= found.audio_high_s
        widths.append((found.audio_high_s - found.audio_low_s) / truth)
    assert 0.9 <= num_held / 200 <= 0.99
    assert np.mean(widths) < 0.25


def test_a_library_that_was_looked_at_as_a_whole_is_known(plans: dict[str, HeadPlan]) -> None:
    looks = [known(number, 1000 * (number + 1), 60.0 * (number % 5 + 1)) for number in range(20)]
    found = estimated(looks, looks, plans)
    assert found.audio_s == pytest.approx(60 * 60)
    assert found.audio_high_s - found.audio_low_s == pytest.approx(0, abs=1e-6)


def test_time_and_money_by_hand(plans: dict[str, HeadPlan]) -> None:
    # 1000 tracks of 3 minutes: 50 hours. Decoding 180,000 s / 500 / 14 cores = 26 s; scoring 180,000 / 20 / 2 = 4500 s.
    looks = [known(number, 3_000_000, 180.0) for number in range(1000)]
    found = estimated(looks, looks[:100], plans)
    scored = found.forward_worker_s * 20 / found.audio_s
    assert 1.0 <= scored < 1.06, "the last window overlaps the one before"
    assert found.wall_s == pytest.approx(20 + found.forward_worker_s / 2)
    assert found.bottleneck == "scoring"
    assert found.gpu_hours == pytest.approx(2 * found.wall_s / 3600)
    assert found.cost == pytest.approx(found.wall_s / 3600 * (16 * 0.05 + 2 * 2.0))
    shared = estimated(looks, looks[:100], plans, machines=Machines(2.0, 0, 2.0, 1, is_shared=True), prices=Prices())
    assert shared.wall_s == pytest.approx(20 + shared.decode_core_s / 2 + shared.forward_worker_s)
    assert shared.cost is None
    slow = estimated(looks, looks[:100], plans, rates=Rates(1.0, 2000.0))
    assert slow.bottleneck == "decoding"


def test_failing_tracks_have_an_interval_and_an_example(plans: dict[str, HeadPlan]) -> None:
    looks = [known(number, 1000, None if number < 5 else 60.0) for number in range(100)]
    found = estimated(looks, looks, plans)
    assert found.errors == {"not_audio": 5}
    assert (found.failing_low, found.failing_high) == pytest.approx((0.0215, 0.1118), abs=1e-3)
    assert list(failing_examples(looks)) == [("not_audio", "s3://b/0.mp3")]
    none = estimated(looks[5:], looks[5:], plans)
    assert none.failing_low == 0 and 0 < none.failing_high < 0.05


def test_tracks_of_unknown_size_count_with_the_mean_duration(plans: dict[str, HeadPlan]) -> None:
    looks = [SampledTrack(make_ref(f"https://h/{n}.mp3"), AudioInfo(100.0, 44100, 2, "mp3")) for n in range(10)]
    assert estimated(looks * 3, looks, plans).audio_s == pytest.approx(3000.0)


def test_an_estimate_is_kept_beside_the_run(tmp_path: Path, plans: dict[str, HeadPlan]) -> None:
    place = Destination.of(str(tmp_path))
    assert read_estimate(place) is None
    found = estimated([known(0, 10, 60.0)], [known(0, 10, 60.0)], plans)
    write_estimate(place, found)
    values = read_estimate(place)
    assert values is not None and values["audio_s"] == found.audio_s


@pytest.mark.parametrize(
    ("share", "measured", "expected"),
    [
        (0.3, {}, FallbackEstimate("large", 0.6, 0.3, 900, "distilled")),
        (0.3, {"genre": 0.1}, FallbackEstimate("large", 0.6, 0.1, 300, "measured")),
        (None, {}, FallbackEstimate("large", 0.6, None, None)),
    ],
)
def test_windows_that_go_to_a_fallback_are_those_measured_or_those_of_the_students_curve(
    plans: dict[str, HeadPlan], share: float | None, measured: dict[str, float], expected: FallbackEstimate
) -> None:
    genre = plans["genre"]
    info = dataclasses.replace(genre.checkpoint, name="large")
    fallback = FallbackPlan(dataclasses.replace(genre, checkpoint=info), 0.6, (0,), share)
    looks = [known(number, 1000, 3 * genre.window_s) for number in range(1000)]
    with_fallback = {**plans, "genre": dataclasses.replace(genre, fallback=fallback)}
    found = estimated(looks, looks, with_fallback, rates=Rates(500.0, 20.0, share_sent=measured))
    assert found.num_windows["genre"] == 3000
    assert found.fallbacks == {"genre": expected}
