"""Peaks and spectrograms of a whole track have the width of a page and show what is in it."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread

from tonearm.audio.decode import PcmStream
from tonearm.audio.overview import NUM_COLUMNS, peaks, spectrograms
from tonearm.audio.streams import keep, ordinary


def stream(waveform: np.ndarray) -> PcmStream:
    samples = waveform.astype(np.float32)
    return keep([samples], ((0, len(samples)),), len(samples), (16000, 16000), ordinary)


def test_peaks_are_the_extremes_of_equal_stretches() -> None:
    waveform = np.zeros(16000)
    waveform[8000:12000] = np.linspace(-0.5, 0.25, 4000)
    found = peaks(stream(waveform), 4)
    assert found == [(0.0, 0.0), (0.0, 0.0), (-0.5, pytest.approx(0.25, abs=1e-3)), (0.0, 0.0)]
    assert len(peaks(stream(np.ones(3)), 1000)) == 3


@pytest.mark.parametrize(("length_s", "columns"), [(0.01, 1), (60.0, NUM_COLUMNS)])
def test_a_tone_is_a_line_where_it_belongs(length_s: float, columns: int) -> None:
    time_s = np.arange(int(16000 * length_s)) / 16000
    for url, share in zip(spectrograms(stream(0.5 * np.sin(2 * np.pi * 2000 * time_s))), (0.25, 0.554), strict=True):
        picture = imread(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        assert picture.shape[1] == columns
        if columns > 1:
            bright = picture[:, :, :3].sum(axis=2).mean(axis=1)
            height = 1 - int(bright.argmax()) / len(bright)
            assert height == pytest.approx(share, abs=0.03)  # 2 kHz of 8 kHz, linear and in Slaney's mels


def test_silence_has_pictures_too() -> None:
    assert all(url.startswith("data:image/png;base64,") for url in spectrograms(stream(np.zeros(100))))
