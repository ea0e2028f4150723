"""Samples of every type and layout become the same mono float32 waveform."""

from __future__ import annotations

import av
import numpy as np
import pytest

from tonearm.audio.readers.pcm import MOST_ADDED, FrameForm, joined, mix, samples_of


@pytest.mark.parametrize(
    ("kind", "half"),
    [(np.uint8, 192), (np.int16, 2**14), (np.int32, 2**30), (np.float32, 0.5), (np.float64, 0.5)],
)
def test_half_of_full_scale_is_a_half_in_every_type(kind: type[np.generic], half: float) -> None:
    mono = mix(np.array([[half, half]], kind))
    assert mono.dtype == np.float32
    np.testing.assert_array_equal(mono, np.float32([0.5, 0.5]))


@pytest.mark.parametrize("num_channels", [1, 2, 7, MOST_ADDED, MOST_ADDED + 1])
def test_mono_is_the_mean_of_the_channels(num_channels: int) -> None:
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (num_channels, 100)).astype(np.int16)
    np.testing.assert_allclose(mix(samples), samples.mean(axis=0) / 2**15, atol=1e-6)


def test_what_is_not_finite_or_absurdly_large_is_silence() -> None:
    samples = np.array([[0.25, np.nan, np.inf, -1e30, 2.0]], np.float32)
    np.testing.assert_array_equal(mix(samples), np.float32([0.25, 0, 0, 0, 2.0]))
    assert len(mix(np.zeros((2, 0), np.float32))) == 0


def test_interleaved_and_planar_frames_are_joined_alike() -> None:
    planar = np.array([[1, 2, 3], [5, 6, 7]], np.int16)
    interleaved = planar.T.reshape(1, -1)
    expected = np.float32([3, 4, 5] * 2) / 2**15
    np.testing.assert_array_equal(joined([planar, planar], FrameForm(8000, 2, "s16p")), expected)
    np.testing.assert_array_equal(joined([interleaved, interleaved], FrameForm(8000, 2, "s16")), expected)


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
def test_every_channel_of_a_planar_frame_is_read(layout: str) -> None:
    """From eight channels on, PyAV's own reading goes past the last plane; see ``FIRST_COUNT_MISREAD``."""
    num_channels = av.AudioLayout(layout).nb_channels
    frame = av.AudioFrame(format="fltp", layout=layout, samples=16)
    expected = np.arange(num_channels * 16, dtype=np.float32).reshape(num_channels, 16)
    for channel in range(num_channels):
        av.audio.plane.AudioPlane(frame, channel).update(expected[channel].tobytes())
    samples, form = samples_of(frame)
    assert form == (frame.sample_rate, num_channels, "fltp")
    np.testing.assert_array_equal(samples, expected)
