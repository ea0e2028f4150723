from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonearm.audio.windows import WindowPlan, dequantize, quantization_scale, quantize

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


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=200))
def test_16_bit_audio_stays_exact(values: list[int]) -> None:
    pcm = np.array(values, np.int16)
    levels, scale = quantize(pcm.astype(np.float32) / 32768)
    back = np.rint(dequantize(levels, scale) * 32768).astype(np.int64)
    # +32768 does not exist, so where the peak is -32768 nothing is lost, and a scale is never wider than it must be.
    assert np.array_equal(back, pcm) or np.abs(pcm.astype(np.int64)).max() == 32768


@pytest.mark.parametrize("peak", [1e-4, 0.003, 0.3, 0.9999, 1.7])
def test_quiet_and_loud_tracks_keep_15_bits(peak: float) -> None:
    rng = np.random.default_rng(0)
    wave = (rng.uniform(-1, 1, 100_000) * peak).astype(np.float32)
    levels, scale = quantize(wave)
    assert np.abs(dequantize(levels, scale) - wave).max() <= np.abs(wave).max() * 2.0**-14
    assert np.abs(levels.astype(np.int64)).max() >= 2**14 - 1


@pytest.mark.parametrize("exponent", [-20, -3, -1, 0, 1])
def test_a_peak_that_is_a_power_of_two_takes_no_bit_more_than_it_needs(exponent: int) -> None:
    peak = 2.0**exponent
    assert quantization_scale(peak) == peak / 32768
    assert quantization_scale(np.nextafter(peak, 0)) == peak / 32768
    assert quantization_scale(np.nextafter(peak, 4)) == 2 * peak / 32768
    wave = np.array([-peak, peak / 2, peak / 32768], np.float32)
    levels, scale = quantize(wave)
    assert levels.tolist() == [-32768, 16384, 1]
    assert np.array_equal(dequantize(levels, scale), wave)


def test_silence_and_emptiness_quantize() -> None:
    for wave in (np.zeros(5, np.float32), np.empty(0, np.float32)):
        levels, scale = quantize(wave)
        assert scale > 0
        assert not levels.any()
