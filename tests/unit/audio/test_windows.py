"""Where windows start, by hand and for any track, and what int16 keeps of its audio."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tonearm.audio.streams import PcmStream, keep, ordinary
from tonearm.audio.windows import (
    FollowingPlan,
    WindowPlan,
    dequantize,
    plan_of,
    quantization_scale,
    quantize_block,
)

lengths = st.integers(1, 5_000_000)
plans = st.builds(
    WindowPlan,
    sample_rate=st.just(16000),
    window_samples=st.integers(1, 500_000),
    hop_samples=st.integers(1000, 500_000),
    max_windows=st.none() | st.integers(1, 40),
    min_samples=st.just(1),
).filter(lambda plan: plan.hop_samples <= plan.window_samples)


@given(plans, lengths)
def test_windows_lie_within_the_track_in_order(plan: WindowPlan, num_samples: int) -> None:
    starts = plan.starts(num_samples)
    assert starts[0] >= 0
    assert (np.diff(starts) > 0).all()
    if num_samples >= plan.window_samples:
        assert starts[-1] + plan.window_samples <= num_samples
    else:
        assert starts.tolist() == [0]


@given(plans.filter(lambda plan: plan.max_windows is None), lengths)
def test_without_a_limit_every_sample_is_in_a_window(plan: WindowPlan, num_samples: int) -> None:
    starts = plan.starts(num_samples)
    assert starts[0] == 0
    assert starts[-1] + plan.window_samples >= num_samples
    assert (np.diff(starts) <= plan.window_samples).all()


@given(plans.filter(lambda plan: plan.max_windows is not None), lengths)
def test_a_limit_is_kept_and_spread_over_the_whole_track(plan: WindowPlan, num_samples: int) -> None:
    starts = plan.starts(num_samples)
    assert plan.max_windows is not None
    assert len(starts) <= plan.max_windows
    if len(starts) == plan.max_windows > 2:
        gaps = np.diff(starts)
        assert starts[0] == 0
        assert starts[-1] == num_samples - plan.window_samples
        assert gaps[:-1].max(initial=0) - gaps[:-1].min(initial=gaps[0]) <= max(1, plan.hop_samples)


def test_the_last_window_is_shifted_back_not_padded() -> None:
    assert WindowPlan(10, 30, 30, None, 1).starts(100).tolist() == [0, 30, 60, 70]


@pytest.mark.parametrize(
    ("num_samples", "hop", "max_windows", "starts"),
    [
        # Too short for one window, just long enough, and one sample more.
        (0, 30, None, [0]),
        (1, 30, None, [0]),
        (29, 30, 1, [0]),
        (30, 30, None, [0]),
        (30, 10, 1, [0]),
        (31, 30, None, [0, 1]),
        (31, 30, 2, [0, 1]),
        (31, 30, 1, [0]),
        (32, 30, 1, [1]),
        # The windows fit, and one sample less and more.
        (89, 30, None, [0, 30, 59]),
        (90, 30, None, [0, 30, 60]),
        (91, 30, None, [0, 30, 60, 61]),
        # They overlap: a hop of 20, then of a third of a window.
        (70, 20, None, [0, 20, 40]),
        (75, 20, None, [0, 20, 40, 45]),
        (60, 10, None, [0, 10, 20, 30]),
        # Four would be cut: as many as are allowed are cut so, fewer are spread over the track.
        (100, 30, 5, [0, 30, 60, 70]),
        (100, 30, 4, [0, 30, 60, 70]),
        (100, 30, 3, [0, 35, 70]),
        (100, 30, 2, [0, 70]),
        (100, 30, 1, [35]),
        (101, 30, 1, [35]),
        (100, 10, 8, [0, 10, 20, 30, 40, 50, 60, 70]),
        (100, 10, 4, [0, 23, 47, 70]),
        (1030, 30, 6, [0, 200, 400, 600, 800, 1000]),
    ],
)
def test_windows_of_30_samples_start_where_one_would_cut_by_hand(
    num_samples: int, hop: int, max_windows: int | None, starts: list[int]
) -> None:
    found = WindowPlan(10, 30, hop, max_windows, 1).starts(num_samples)
    assert found.dtype == np.int64
    assert found.tolist() == starts


def test_equal_window_plans_are_equal_and_hashable() -> None:
    plans = [WindowPlan(10, 30, hop, None, 1) for hop in (30, 30, 15)]
    assert [plan.starts(60).tolist() for plan in plans] == [[0, 30], [0, 30], [0, 15, 30]]
    assert len(set(plans)) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        plans[0].hop_samples = 10  # type: ignore[misc]


def kept(waveform: NDArray[np.float32]) -> PcmStream:
    """Return a whole track as a decoder keeps it, at the file's own rate."""
    return keep([waveform], ((0, len(waveform)),), len(waveform), (16000, 16000), ordinary)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=200))
def test_16_bit_audio_stays_exact(values: list[int]) -> None:
    pcm = np.array(values, np.int16)
    stream = kept(pcm.astype(np.float32) / 32768)
    back = np.rint(dequantize(stream.pcm, stream.scale) * 32768).astype(np.int64)
    # +32768 does not exist, so where the peak is -32768 nothing is lost, and a scale is never wider than it must be.
    assert np.array_equal(back, pcm) or np.abs(pcm.astype(np.int64)).max() == 32768


@pytest.mark.parametrize("peak", [1e-4, 0.003, 0.3, 0.9999, 1.7])
def test_quiet_and_loud_tracks_keep_15_bits(peak: float) -> None:
    rng = np.random.default_rng(0)
    wave = (rng.uniform(-1, 1, 100_000) * peak).astype(np.float32)
    stream = kept(wave)
    assert np.abs(dequantize(stream.pcm, stream.scale) - wave).max() <= np.abs(wave).max() * 2.0**-14
    assert np.abs(stream.pcm.astype(np.int64)).max() >= 2**14 - 1


@pytest.mark.parametrize("exponent", [-20, -3, -1, 0, 1, 17])
def test_a_peak_that_is_a_power_of_two_takes_no_bit_more_than_it_needs(exponent: int) -> None:
    peak = 2.0**exponent
    assert quantization_scale(peak) == peak / 32768
    assert quantization_scale(np.nextafter(peak, 0)) == peak / 32768
    assert quantization_scale(np.nextafter(peak, np.inf)) == 2 * peak / 32768
    wave = np.array([-peak, peak / 2, peak / 32768], np.float32)
    stream = kept(wave)
    assert stream.pcm.tolist() == [-32768, 16384, 1]
    assert np.array_equal(dequantize(stream.pcm, stream.scale), wave)


@pytest.mark.parametrize("wave", [[], [0.0], [0.0, -0.0, 0.0]])
def test_silence_and_emptiness_quantize(wave: list[float]) -> None:
    stream = kept(np.array(wave, np.float32))
    assert stream.scale == 1 / 32768
    assert stream.pcm.tolist() == [0] * len(wave)


@pytest.mark.parametrize(
    ("peak", "scale"),
    [
        (0.0, 1 / 32768),
        (float("inf"), 1 / 32768),
        (float("nan"), 1 / 32768),
        (0.9, 1 / 32768),
        (0.75, 1 / 32768),
        (0.5, 0.5 / 32768),
        (0.3, 0.5 / 32768),
        (3.0, 4 / 32768),
    ],
)
def test_the_scale_is_the_next_power_of_two_above_the_peak(peak: float, scale: float) -> None:
    assert quantization_scale(peak) == scale


def test_levels_are_rounded_and_end_where_int16_does() -> None:
    wave = np.array([1.0, -1.0, 7.0, -7.0, 0.5, 1.4 / 32768, 1.6 / 32768, -1.6 / 32768, 32766 / 32768], np.float32)
    at_one = quantize_block(wave, 1 / 32768)
    assert at_one.dtype == np.int16
    assert at_one.tolist() == [32767, -32768, 32767, -32768, 16384, 1, 2, -2, 32766]
    assert quantize_block(wave, 4 / 32768).tolist() == [8192, -8192, 32767, -32768, 4096, 0, 0, 0, 8192]
    assert wave[:3].tolist() == [1.0, -1.0, 7.0], "what was given stays"


def test_samples_come_back_as_float32_whatever_they_were_kept_as() -> None:
    whole, part = dequantize(np.array([-32768, 3], np.int16), 1 / 32768), dequantize(np.float32([0.5, -2]), 1.0)
    assert (whole.dtype, part.dtype) == (np.float32, np.float32)
    assert (whole.tolist(), part.tolist()) == ([-1.0, 3 / 32768], [0.5, -2.0])


def test_following_windows_are_one_for_each_of_the_leaders() -> None:
    """Lengths are rounded up at each rate, so that grids of their own would differ by a window now and then."""
    leader = WindowPlan(22050, 11025, 5513, None, 1)
    following = FollowingPlan(16000, 8000, 4000, None, 1, leader)
    for num_native in range(5 * 44100, 5 * 44100 + 3000, 7):
        lengths = {22050: -(-num_native // 2), 16000: -(-num_native * 160 // 441)}
        starts, others = leader.starts_in(lengths), following.starts_in(lengths)
        assert len(starts) == len(others)
        np.testing.assert_allclose(others / 16000, starts / 22050, atol=1.1 / 16000)
        assert (others >= 0).all() and (others + 8000 <= lengths[16000]).all()
    assert following.starts_in({22050: 100, 16000: 73}).tolist() == [0]


def test_following_windows_are_limited_as_their_leader_is() -> None:
    leader = WindowPlan(22050, 11025, 5513, None, 1)
    following = FollowingPlan(16000, 8000, 4000, None, 1, leader)
    assert following.limited(3).leader == leader.limited(3) and following.limited(3).max_windows == 3
    assert following.within(2.0).leader == leader.within(2.0)
    assert plan_of(dataclasses.asdict(following)) == following and plan_of(dataclasses.asdict(leader)) == leader
