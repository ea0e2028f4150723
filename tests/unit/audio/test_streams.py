"""How a decoded track is kept: which form its samples take, and that every window it was decoded for is there."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tonearm.audio import streams
from tonearm.audio.streams import FLOAT32, INT16, PcmStream

# What is kept of a track of 30 samples, each of which has its place as its value.
SPANS = ((0, 3), (4, 10), (20, 26), (27, 30))
KEPT = [place for start, stop in SPANS for place in range(start, stop)]


def track(scale: float = 1.0) -> PcmStream:
    return PcmStream(16000, 30, np.array(KEPT, np.int16), scale, SPANS)


@pytest.mark.parametrize(
    ("start", "length", "stop"),
    [
        (0, 3, 3),
        (0, 1, 1),
        (1, 1, 2),
        (2, 1, 3),
        (4, 6, 10),
        (4, 1, 5),
        (6, 3, 9),
        (9, 1, 10),
        (20, 6, 26),
        (22, 4, 26),
        (27, 3, 30),
        (29, 1, 30),
        (28, 100, 30),  # the track ends before the window does
    ],
)
def test_a_window_is_found_in_the_span_that_holds_it(start: int, length: int, stop: int) -> None:
    levels = track().levels(start, length)
    assert levels.dtype == np.int16
    assert levels.tolist() == list(range(start, stop))
    window = track(0.25).window(start, length)
    assert window.dtype == np.float32
    assert window.tolist() == [place / 4 for place in range(start, stop)]


@pytest.mark.parametrize(
    ("start", "length", "says"),
    [
        (0, 4, "0 to 4"),
        (2, 2, "2 to 4"),
        (3, 1, "3 to 4"),
        (3, 2, "3 to 5"),
        (4, 7, "4 to 11"),
        (10, 1, "10 to 11"),
        (12, 2, "12 to 14"),
        (19, 7, "19 to 26"),
        (20, 7, "20 to 27"),
        (25, 3, "25 to 28"),  # two spans have it, and none alone
        (26, 900, "26 to 30"),
    ],
)
def test_a_window_that_was_not_kept_is_an_error_not_other_audio(start: int, length: int, says: str) -> None:
    for read in (track().levels, track().window):
        with pytest.raises(IndexError, match=rf"samples {says} were not kept; the track was decoded for other"):
            read(start, length)


def blocks(*values: list[float]) -> list[NDArray[np.float32]]:
    return [np.array(block, np.float32) for block in values]


def test_a_track_of_its_own_rate_is_int16_at_the_scale_of_its_loudest_block() -> None:
    given = blocks([0.125, -0.0625], [], [0.25, 0.0, -0.125])
    kept = streams.keep(given, ((10, 12), (20, 23)), 30, (16000, 16000), streams.ordinary)
    assert given == [], "what was kept is not held twice"
    assert (kept.sample_rate, kept.num_samples, kept.spans) == (16000, 30, ((10, 12), (20, 23)))
    # The peak of a quarter is what the largest level stands for; itself it is one level more than there is.
    assert kept.pcm.dtype == np.int16
    assert kept.scale == 0.25 / 32768
    assert kept.pcm.tolist() == [16384, -8192, 32767, 0, -16384]
    assert kept.window(20, 3).tolist() == [0.25 * 32767 / 32768, 0.0, -0.125]


def test_the_loudest_sample_may_be_negative() -> None:
    kept = streams.keep(blocks([0.25], [-0.5, 0.25]), ((0, 3),), 3, (8000, 8000), streams.ordinary)
    assert (kept.scale, kept.pcm.tolist()) == (0.5 / 32768, [16384, -32768, 16384])


@pytest.mark.parametrize("given", [[], [[]], [[], []], [[0.0, 0.0]]])
def test_silence_and_emptiness_are_kept_at_full_scale(given: list[list[float]]) -> None:
    num_samples = sum(map(len, given))
    kept = streams.keep(blocks(*given), ((0, num_samples),), num_samples, (16000, 16000), streams.ordinary)
    assert (kept.scale, kept.pcm.tolist(), kept.pcm.dtype) == (1 / 32768, [0] * num_samples, np.int16)


def test_a_track_of_a_lower_rate_stays_as_it_is() -> None:
    values = [0.1, -1.7, 1e-9], [1.25]
    given = blocks(*values)
    kept = streams.keep(given, ((5, 8), (9, 10)), 10, (8000, 16000), streams.ordinary)
    assert (given, kept.sample_rate, kept.scale, kept.pcm.dtype) == ([], 16000, 1.0, np.float32)
    assert kept.pcm.tolist() == np.float32([*values[0], *values[1]]).tolist()
    assert kept.window(5, 3).tolist() == np.float32(values[0]).tolist()


class Room:
    """Counts what is asked for, and gives nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, np.dtype[Any]]] = []

    def __call__(self, num_samples: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        self.asked.append((num_samples, dtype))
        return np.empty(0, dtype)


@pytest.mark.parametrize(
    ("native", "rate", "dtype"),
    [
        (8000, 16000, FLOAT32),
        (15999, 16000, FLOAT32),
        (1, 16000, FLOAT32),
        (16000, 16000, INT16),
        (44100, 16000, INT16),
        (0, 16000, INT16),  # the file does not tell
        (-1, 16000, INT16),
    ],
)
def test_only_a_track_of_a_lower_rate_is_kept_as_floats(native: int, rate: int, dtype: np.dtype[Any]) -> None:
    room = Room()
    kept = streams.keep([], ((0, 70), (100, 130)), 200, (native, rate), room)
    assert room.asked == [(100, dtype)]
    assert kept.pcm.dtype == dtype


@pytest.mark.parametrize(
    ("spans", "dtype"),
    [
        (((0, 2**26),), FLOAT32),
        (((0, 2**26 + 1),), INT16),
        (((0, 2**25), (2**26, 2**26 + 2**25)), FLOAT32),  # the whole track is longer, what is kept of it is not
        (((0, 2**25), (2**26, 2**26 + 2**25 + 1)), INT16),
    ],
)
def test_floats_take_a_quarter_of_a_gibibyte_at_most(spans: streams.Spans, dtype: np.dtype[Any]) -> None:
    room = Room()
    streams.keep([], spans, spans[-1][1], (8000, 16000), room)
    ((num_samples, asked),) = room.asked
    assert (num_samples, asked) == (sum(stop - start for start, stop in spans), dtype)


def test_ordinary_room_is_of_the_length_and_form_asked_for() -> None:
    room = streams.ordinary(3, INT16)
    assert (room.shape, room.dtype) == ((3,), np.int16)


def test_room_that_held_other_samples_does_not_show_them() -> None:
    """Where less was decoded than the spans are long, what is left is silence."""
    room = np.full(6, 77, np.int16)
    kept = streams.keep([np.full(4, 0.5, np.float32)], ((0, 6),), 6, (16000, 16000), lambda size, dtype: room[:size])
    assert kept.pcm.tolist() == [32767] * 4 + [0, 0]


def test_a_stream_cannot_be_changed() -> None:
    stream = streams.keep(blocks([0.5]), ((0, 1),), 1, (16000, 16000), streams.ordinary)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stream.scale = 2.0  # type: ignore[misc]
