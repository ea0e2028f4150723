"""``Tagger`` and ``tag_file``: what is given to them that is no audio, no rate or no model is refused in one line."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest

import tonearm
from tonearm.api import tagger as taggers
from tonearm.api.flags import ModelFlags, tag_settings
from tonearm.api.tagger import Tagger, as_wave, one_track
from tonearm.errors import SettingsError, UsageError

SECOND = np.linspace(-0.5, 0.5, 16000)


@pytest.mark.parametrize(
    "rate",
    [
        float("nan"),
        float("inf"),
        2**31,
        10**30,
        0,
        7,
        999,
        16000.5,
        "16000",
        [16000],
        np.array([16000]),
        1j,
        True,
        None,
    ],
)
def test_a_rate_that_no_file_can_state_is_refused(rate: Any) -> None:
    """Several of them ended in a bare error of Python's or of the library that writes the file."""
    with pytest.raises(UsageError, match="expected their rate in whole Hz, at least 1000") as caught:
        as_wave(SECOND, rate)
    assert repr(rate) in str(caught.value)


@pytest.mark.parametrize("rate", [16000, 16000.0, np.int64(16000), np.float32(16000)])
def test_any_whole_number_is_a_rate(rate: Any) -> None:
    """Rates come out of NumPy and out of files as numbers of several types."""
    assert as_wave(SECOND, rate) == as_wave(SECOND, 16000)


@pytest.mark.parametrize("native", ["i2", "i4", "f4", "f8"])
def test_samples_of_the_other_byte_order_are_the_same_samples(native: str) -> None:
    """Samples that were read out of an AIFF file are big-endian."""
    samples = (SECOND * 1000).astype(native) if native[0] == "i" else SECOND.astype(native)
    assert as_wave(samples.astype(f">{native}"), 16000) == as_wave(samples.astype(f"<{native}"), 16000)


def test_masked_samples_are_refused() -> None:
    """What lies under a mask would be tagged as sound."""
    with pytest.raises(UsageError, match="some are masked; fill them first"):
        as_wave(np.ma.masked_greater(SECOND, 0.2), 16000)
    assert as_wave(np.ma.masked_greater(SECOND, 2.0), 16000) == as_wave(SECOND, 16000)


@pytest.mark.parametrize("value", ["no", 0, 1, []])
def test_demo_models_is_true_or_false(value: Any) -> None:
    """The text 'no' counted as true."""
    with pytest.raises(SettingsError, match="expected True or False"):
        tag_settings({"demo_models": value}, ModelFlags)


def test_a_sample_that_becomes_infinite_is_refused() -> None:
    """1e300 is a finite float64 and no float32."""
    with pytest.raises(UsageError, match="not all finite"):
        as_wave(np.array([0.1, 1e300]), 16000)


@pytest.mark.parametrize(
    ("shape", "is_turned"), [((16000, 2), True), ((1, 1, 9), False), ((), False), ((65, 99), False)]
)
def test_only_samples_that_stand_the_wrong_way_are_to_be_transposed(shape: tuple[int, ...], is_turned: bool) -> None:
    """To transpose three axes, or none, helps nobody."""
    with pytest.raises(UsageError) as caught:
        as_wave(np.zeros(shape, np.float32), 16000)
    assert str(shape) in str(caught.value)
    assert ("transpose" in str(caught.value)) == is_turned


@pytest.mark.parametrize("audio", [[0.1, 0.2], io.BytesIO(b"RIFF"), None, 5, ["song.flac"]])
def test_what_is_no_audio_is_refused_by_its_type(audio: Any) -> None:
    """Before any model is asked; a list of samples looked like a file that says its own rate."""
    tagger = Tagger.__new__(Tagger)
    for rate in (None, 16000):
        with pytest.raises(UsageError, match=f"type {type(audio).__name__}, expected a path"):
            tagger(audio, rate)


def test_an_empty_path_is_not_the_current_folder() -> None:
    """``tonearm tag ""`` comes of a variable that is not set."""
    with pytest.raises(UsageError, match="empty path"):
        one_track("")


@pytest.mark.parametrize("heads", [["mood"], "mood=x", {"mood": None}, {1: "x"}])
def test_heads_of_another_form_are_refused(heads: Any) -> None:
    """Each of them was an AttributeError or a TypeError from inside."""
    with pytest.raises(SettingsError, match=r"heads|a head called"):
        tag_settings({"heads": heads, "demo_models": True}, ModelFlags)


@pytest.mark.parametrize("model", [3, "", b"models/genre"])
def test_a_model_is_a_folder_or_an_id(model: Any) -> None:
    """An empty one was looked for in the current folder."""
    with pytest.raises(SettingsError, match="got genre_model="):
        tag_settings({"genre_model": model}, ModelFlags)


def test_a_pickled_tagger_is_loaded_again_from_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its locks and its child process cannot be pickled, and a pool of processes pickles what it is given."""
    opened: list[object] = []
    monkeypatch.setattr(taggers.Tagger, "_open", lambda self, settings: opened.append(settings))
    tagger = Tagger.__new__(Tagger)
    tagger.settings = tag_settings({"demo_models": True}, ModelFlags)
    assert isinstance(pickle.loads(pickle.dumps(tagger)), tonearm.Tagger)
    assert opened == [tagger.settings]
