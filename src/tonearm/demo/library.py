"""A small music library of real encoded files: six codecs, mono and stereo, 8 to 96 kHz, with titles and artists."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tonearm.demo.songs import GENRES, RATE, compose


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How one file is written."""

    extension: str
    codec: str
    sample_rate: int
    channels: int
    bit_rate: int | None = None


ENCODINGS = (
    Encoding("flac", "flac", 44100, 2),
    Encoding("mp3", "libmp3lame", 44100, 2, 192_000),
    Encoding("ogg", "vorbis", 44100, 2),
    Encoding("wav", "pcm_s16le", 22050, 1),
    Encoding("m4a", "aac", 48000, 2, 160_000),
    Encoding("opus", "libopus", 48000, 2, 128_000),
    Encoding("mp3", "libmp3lame", 22050, 1, 64_000),
    Encoding("flac", "flac", 96000, 1),
    Encoding("wav", "pcm_s16le", 8000, 2),
    Encoding("opus", "libopus", 48000, 1, 64_000),
    Encoding("m4a", "aac", 44100, 1, 96_000),
)

ARTISTS = {
    "techno": "Kabel Nord",
    "drum and bass": "Underpass",
    "hip hop": "Corner Store Tapes",
    "rock": "The Gravel Pits",
    "ambient": "Slow Tide",
    "classical": "Ensemble Lindenhof",
    "jazz": "Ola Brandt Trio",
    "chiptune": "Cartridge Club",
    "folk": "Maren & Wells",
}
ADJECTIVES = [
    "Silver",
    "Northern",
    "Second",
    "Quiet",
    "Electric",
    "Paper",
    "Morning",
    "Hollow",
    "Distant",
    "Golden",
    "Narrow",
    "Wooden",
]
NOUNS = [
    "Harbour",
    "Signal",
    "Garden",
    "Engine",
    "Winter",
    "Corridor",
    "Lantern",
    "Meadow",
    "Static",
    "Bridge",
    "Orbit",
    "Letter",
]


@dataclasses.dataclass(frozen=True)
class DemoTrack:
    """One written file and what it truly is."""

    path: Path
    genre: str
    title: str
    artist: str
    duration_s: float
    encoding: Encoding


def write_library(
    folder: str | Path, *, num_tracks: int = 24, seed: int = 0, min_s: float = 20, max_s: float = 60
) -> list[DemoTrack]:
    """Write songs of every style in turn, a folder an artist, and beside them what real libraries hold too.

    That is: notes, labels and a download that broke off.

    Args:
        folder: made if it is missing.
        num_tracks: songs that decode.
        seed: the same seed writes the same music.
    """
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    tracks = []
    for number in range(num_tracks):
        genre, encoding = GENRES[number % len(GENRES)], ENCODINGS[number % len(ENCODINGS)]
        title = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
        path = folder / ARTISTS[genre] / f"{number + 1:02d} {title}.{encoding.extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        song = compose(genre, 1000 * (seed + 1) + number, float(rng.uniform(min_s, max_s)))
        encode(
            path, song.samples, encoding, {"title": title, "artist": ARTISTS[genre], "album": f"{ARTISTS[genre]} Live"}
        )
        duration_s = song.samples.shape[1] / RATE
        tracks.append(DemoTrack(path, genre, title, ARTISTS[genre], duration_s, encoding))
    (folder / "broken download.mp3").write_bytes(b"<html><body>404 Not Found</body></html>\n" * 20)
    (folder / "notes.txt").write_text("Synthesized by tonearm.demo; free to use.\n")
    with (folder / "labels.txt").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "genre"])
        rows.writerows((track.path.relative_to(folder).as_posix(), track.genre) for track in tracks)
    return tracks


def encode(path: Path, samples: NDArray[np.float32], encoding: Encoding, metadata: dict[str, str]) -> None:
    """Write stereo float32 [2, samples] at ``songs.RATE`` as one encoded file with its tags."""
    if encoding.channels == 1:
        samples = samples.mean(axis=0, keepdims=True)
    if encoding.sample_rate != RATE:
        samples = soxr.resample(samples.T, RATE, encoding.sample_rate, "HQ").T
    if encoding.extension == "ogg":
        _encode_vorbis(path, samples, encoding, metadata)
        return
    layout = "stereo" if encoding.channels == 2 else "mono"
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata)
        stream: Any = container.add_stream(encoding.codec, rate=encoding.sample_rate, layout=layout)
        if encoding.bit_rate is not None:
            stream.bit_rate = encoding.bit_rate
        if encoding.extension == "opus":
            stream.metadata.update(metadata)  # Ogg keeps its comments in the stream
        resampler = av.AudioResampler(stream.format, layout, encoding.sample_rate, stream.frame_size or 4096)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples, dtype=np.float32), format="fltp", layout=layout
        )
        frame.sample_rate = encoding.sample_rate
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def _encode_vorbis(path: Path, samples: NDArray[np.float32], encoding: Encoding, metadata: dict[str, str]) -> None:
    # PyAV's FFmpeg has no libvorbis; libsndfile brings its own.
    with soundfile.SoundFile(
        path, "w", encoding.sample_rate, encoding.channels, format="OGG", subtype="VORBIS"
    ) as file:
        for name, value in metadata.items():
            setattr(file, name, value)
        block = 65536  # libsndfile overflows its stack on longer writes of Vorbis
        for start in range(0, samples.shape[1], block):
            file.write(samples[:, start : start + block].T)
