"""Pictures of audio show its tones where they are, and silence has pictures too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tonearm.audio import plots

RATE = 22050


def tone(frequency: float, length_s: float = 3.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(length_s * RATE)) / RATE)).astype(np.float32)


def test_the_spectrum_peaks_where_the_tone_is() -> None:
    axes = Figure().subplots()
    plots.draw_spectrum(axes, tone(1000.0), RATE)
    frequency, level = axes.lines[0].get_data()
    assert frequency[np.argmax(level)] == pytest.approx(1000, abs=RATE / plots.SPECTRUM_FRAME)
    assert axes.get_xscale() == "log"
    # The side lobes of a Hann window fall by 18 dB an octave: far from the tone there is nothing.
    assert np.median(level[frequency > 4000]) < -90


def test_the_spectrogram_has_the_tone_in_its_row() -> None:
    axes = Figure().subplots()
    plots.draw_spectrogram(axes, tone(2000.0), RATE, start_s=60.0)
    mesh = axes.collections[0]
    levels = mesh.get_array().reshape(plots.FRAME // 2 + 1, -1)
    assert levels[:, levels.shape[1] // 2].argmax() * RATE / plots.FRAME == pytest.approx(2000, abs=RATE / plots.FRAME)
    assert axes.get_xlim()[0] == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize("waveform", [np.zeros(0), np.zeros(5000), np.ones(1), tone(50.0, 0.01)])
def test_silence_and_almost_nothing_have_pictures(waveform: np.ndarray, tmp_path: Path) -> None:
    paths = plots.write_pictures(waveform.astype(np.float32), 8000, tmp_path, "x", title="$a_{b$ 坂本")
    assert [path.name for path in paths] == ["x-waveform.png", "x-spectrum.png", "x-spectrogram.png", "x-mel.png"]
