"""The pictures of a track: waveform, spectrum, STFT spectrogram, mel spectrogram, and the timeline of the heads.

After unit 1 of the Hugging Face audio course, with librosa and matplotlib; levels are dB below the loudest bin.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import librosa
import librosa.display
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tonearm.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRAME = 2048
SPECTRUM_FRAME = 4096
MAX_COLUMNS = 4000
FLOOR_DB = -80.0
NUM_MELS = 128
MEL_MAX_HZ = 8000.0
NUM_TIMELINE_TAGS = 12
SIZE, DPI = (10.0, 4.0), 120


def write_pictures(
    waveform: NDArray[np.float32], sample_rate: int, folder: str | Path, stem: str, *, title: str, start_s: float = 0.0
) -> list[Path]:
    """Write the four pictures as ``folder/STEM-{waveform,spectrum,spectrogram,mel}.png`` and return their paths.

    Args:
        waveform: float32 [samples], mono.
        sample_rate: Hz.
        start_s: where in the track the waveform begins; the time axes count from there.
    """
    waveform = np.pad(waveform, (0, max(0, 2 - len(waveform))))
    drawings: dict[str, Callable[[Axes, NDArray[np.float32], int, float], None]] = {
        "waveform": draw_waveform,
        "spectrum": draw_spectrum,
        "spectrogram": draw_spectrogram,
        "mel": draw_mel,
    }
    paths = []
    for name, draw in drawings.items():
        figure = _figure()
        axes = figure.subplots()
        draw(axes, waveform, sample_rate, start_s)
        axes.set_title(f"{title}\n{axes.get_title()}", fontsize=10, parse_math=False)
        paths.append(_save(figure, Path(folder) / f"{stem}-{name}.png"))
    return paths


def draw_waveform(axes: Axes, waveform: NDArray[np.float32], sample_rate: int, start_s: float = 0.0) -> None:
    """Draw amplitude over time; long excerpts as the envelope of their extremes."""
    librosa.display.waveshow(waveform, sr=sample_rate, ax=axes, offset=start_s, color="#2b6cb0")
    axes.set(title="Waveform", ylabel="Amplitude", ylim=(-1.05, 1.05), xlim=_limits(waveform, sample_rate, start_s))


def draw_spectrum(axes: Axes, waveform: NDArray[np.float32], sample_rate: int, start_s: float = 0.0) -> None:
    """Draw level over frequency, on a log axis, of the loudest 4096 samples under a Hann window."""
    first = _loudest(waveform, SPECTRUM_FRAME)
    frame = waveform[first : first + SPECTRUM_FRAME]
    magnitude = np.abs(np.fft.rfft(frame * np.hanning(len(frame)), SPECTRUM_FRAME))
    frequency = np.fft.rfftfreq(SPECTRUM_FRAME, 1 / sample_rate)
    axes.plot(frequency[1:], decibel(magnitude)[1:], color="#2b6cb0", linewidth=0.9)
    at_s = start_s + first / sample_rate
    axes.set(
        title=f"Spectrum of the loudest {len(frame):,} samples (from {at_s:.2f} s, Hann window)",
        xscale="log",
        xlabel="Frequency (Hz)",
        ylabel="Level (dB)",
        xlim=(max(20.0, float(frequency[1])), sample_rate / 2),
        ylim=(FLOOR_DB - 20, 3),
    )
    axes.grid(visible=True, which="both", alpha=0.25)


def draw_spectrogram(axes: Axes, waveform: NDArray[np.float32], sample_rate: int, start_s: float = 0.0) -> None:
    """Draw the short-time Fourier transform: level over time and frequency."""
    hop = _hop(waveform)
    magnitude = np.abs(librosa.stft(_padded(waveform), n_fft=FRAME, hop_length=hop))
    _show(axes, decibel(magnitude), sample_rate, hop, start_s, y_axis="hz")
    axes.set(title=f"STFT spectrogram (Hann window of {FRAME:,} samples, hop {hop:,})", ylabel="Frequency (Hz)")


def draw_mel(axes: Axes, waveform: NDArray[np.float32], sample_rate: int, start_s: float = 0.0) -> None:
    """Draw the mel spectrogram: level over time and 128 mel bands up to 8 kHz."""
    hop, highest = _hop(waveform), min(MEL_MAX_HZ, sample_rate / 2)
    # Low rates do not resolve 128 bands: the narrowest would hold no bin.
    num_mels = NUM_MELS if sample_rate >= 2 * MEL_MAX_HZ else NUM_MELS // 2
    power = librosa.feature.melspectrogram(
        y=_padded(waveform), sr=sample_rate, n_fft=FRAME, hop_length=hop, n_mels=num_mels, fmax=highest
    )
    _show(axes, decibel(np.sqrt(power)), sample_rate, hop, start_s, y_axis="mel", fmax=highest)
    axes.set(
        title=f"Mel spectrogram ({counted(num_mels, 'band')} up to {highest / 1000:g} kHz)", ylabel="Frequency (Hz)"
    )


def write_timeline(
    windows: Sequence[Mapping[str, Any]], tags: Sequence[str], folder: str | Path, stem: str, *, title: str
) -> Path:
    """Write the heads' timeline as ``folder/STEM-timeline.png``: genres as a band, scores of tags below.

    Args:
        windows: ``{start_s, end_s, genre, genre_score, tags: [{label, score}]}`` in order, as rows hold them.
        tags: labels for the lower part, the most important first; a window that does not list one shows as 0.

    Raises:
        ValueError: no windows.
    """
    if not windows:
        raise ValueError("got no windows, expected at least one")
    shown = list(tags)[:NUM_TIMELINE_TAGS]
    figure = _figure(height=1.6 + 0.3 * max(3, len(shown)))
    bands, scores = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1, max(2, len(shown))]})
    _draw_genres(bands, windows)
    _draw_tags(scores, windows, shown)
    bands.set_title(f"{title}\nTimeline", fontsize=10, parse_math=False)
    return _save(figure, Path(folder) / f"{stem}-timeline.png")


def _draw_genres(axes: Axes, windows: Sequence[Mapping[str, Any]]) -> None:
    names = sorted({window["genre"] for window in windows if window["genre"]})
    colours = {name: matplotlib.colormaps["tab20"](index % 20) for index, name in enumerate(names)}
    stretches: list[tuple[float, float, str]] = []
    for window in windows:
        if not window["genre"]:
            continue
        start_s, end_s, name = window["start_s"], window["end_s"], window["genre"]
        if stretches and stretches[-1][2] == name:
            stretches[-1] = (stretches[-1][0], end_s, name)
        else:
            stretches.append((start_s, end_s, name))
    total_s = windows[-1]["end_s"] - windows[0]["start_s"] or 1.0
    for start_s, end_s, name in stretches:
        axes.axvspan(start_s, end_s, color=colours[name], alpha=0.85)
        if (end_s - start_s) / total_s > 0.012 * len(name):
            axes.text((start_s + end_s) / 2, 0.5, name, ha="center", va="center", fontsize=8, parse_math=False)
    axes.set(ylim=(0, 1), yticks=[], ylabel="genre" if names else "")


def _draw_tags(axes: Axes, windows: Sequence[Mapping[str, Any]], tags: Sequence[str]) -> None:
    image = np.zeros((max(1, len(tags)), len(windows)), np.float32)
    for column, window in enumerate(windows):
        for tag in window["tags"] or ():
            if tag["label"] in tags:
                image[tags.index(tag["label"]), column] = tag["score"]
    edges = [window["start_s"] for window in windows] + [windows[-1]["end_s"]]
    mesh = axes.pcolormesh(edges, np.arange(len(image) + 1), image, cmap="magma", vmin=0, vmax=1)
    axes.set_xlabel("Time (s)")
    axes.set_yticks(np.arange(len(tags)) + 0.5, tags, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    if axes.figure is not None:
        axes.figure.colorbar(mesh, ax=axes, label="score", pad=0.01)


def _show(
    axes: Axes, levels: NDArray[np.floating[Any]], sample_rate: int, hop: int, start_s: float, **options: Any
) -> None:
    times = start_s + librosa.frames_to_time(np.arange(levels.shape[1]), sr=sample_rate, hop_length=hop)
    mesh = librosa.display.specshow(
        levels,
        sr=sample_rate,
        hop_length=hop,
        x_coords=times,
        x_axis="time",
        ax=axes,
        cmap="magma",
        vmin=FLOOR_DB,
        vmax=0,
        **options,
    )
    axes.set_xlabel("Time")
    axes.figure.colorbar(mesh, ax=axes, format="%+.0f dB", pad=0.01)


def decibel(magnitude: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the level in dB below the loudest."""
    reference = float(magnitude.max(initial=0.0)) or 1.0
    return 20 * np.log10(np.maximum(magnitude / reference, 1e-10))


def _hop(waveform: NDArray[np.float32]) -> int:
    return max(FRAME // 4, math.ceil(len(waveform) / MAX_COLUMNS))


def _padded(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.pad(waveform, (0, max(0, FRAME - len(waveform))))


def _loudest(waveform: NDArray[np.float32], length: int) -> int:
    """Return the first sample of the loudest frame, in steps of half a frame."""
    if len(waveform) <= length:
        return 0
    frames = np.lib.stride_tricks.sliding_window_view(waveform, length)[:: length // 2]
    return int(np.argmax([float(np.square(frame, dtype=np.float64).sum()) for frame in frames])) * (length // 2)


def _limits(waveform: NDArray[np.float32], sample_rate: int, start_s: float) -> tuple[float, float]:
    return start_s, start_s + max(1, len(waveform)) / sample_rate


def _figure(height: float = SIZE[1]) -> Figure:
    # Not pyplot: its figures live until closed, and its backend may want a display.

    return Figure(figsize=(SIZE[0], height), dpi=DPI, layout="constrained")


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a title in a script the font lacks
        figure.savefig(path)
    return path
