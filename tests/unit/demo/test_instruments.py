"""Every instrument plays a note in tune, within full scale, and the same one for the same arguments."""

from __future__ import annotations

import numpy as np
import pytest

from tonearm.demo.instruments import DRUMS, INSTRUMENTS, hertz, play


def test_a_midi_number_is_a_frequency() -> None:
    assert (hertz(69), hertz(57)) == (440.0, 220.0)
    assert hertz(60) == pytest.approx(261.626, abs=1e-3)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_note_is_finite_audible_and_ends_in_silence(name: str) -> None:
    note = play(name, 57, 0.5)
    assert note.dtype == np.float32 and np.isfinite(note).all()
    assert np.abs(note).max() > 0.05
    assert abs(float(note[-1])) < 0.01, "a note that ends at once clicks"


def test_a_take_differs_from_the_next_and_not_from_itself() -> None:
    play.cache_clear()
    first = play(min(DRUMS), 0, 0.5)
    play.cache_clear()
    assert np.array_equal(first, play(min(DRUMS), 0, 0.5))
    assert not np.array_equal(first, play(min(DRUMS), 0, 0.5, variant=1))
