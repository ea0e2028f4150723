"""A track's result from the scores of its windows."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from tonearm.audio.decode import DecodeRequest, decode
from tonearm.audio.windows import WindowPlan
from tonearm.settings import ModelSettings
from tonearm.tagging import Heads


def is_silent(samples: np.ndarray) -> bool:
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV", subtype="FLOAT")
    track = decode(file.getvalue(), DecodeRequest((WindowPlan(16000, 16000, 16000, None, 400),), 60.0))
    return Heads({}, ModelSettings()).pool(track, {}).silent


def test_silent_is_below_60_db_of_full_scale() -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 48000).astype(np.float32)
    assert is_silent(np.zeros(48000, np.float32))
    assert is_silent(0.0009 * noise)
    assert not is_silent(0.0015 * noise)
    click = np.zeros(48000, np.float32)
    click[20000:20400] = 0.1 * noise[:400]
    assert not is_silent(click)
