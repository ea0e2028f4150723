"""Clips of half a minute of synthesized music, in the codecs that libraries hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tonearm.demo.library import Encoding, encode
from tonearm.demo.songs import GENRES, RATE, compose

CLIP_S = 30.0
# Stereo at 44.1 kHz (Opus has 48), at the rates that stores sell.
ENCODINGS = {
    "wav": Encoding("wav", "pcm_s16le", RATE, 2),
    "flac": Encoding("flac", "flac", RATE, 2),
    "mp3": Encoding("mp3", "libmp3lame", RATE, 2, 192_000),
    "ogg": Encoding("ogg", "vorbis", RATE, 2),
    "opus": Encoding("opus", "libopus", 48000, 2, 128_000),
    "m4a": Encoding("m4a", "aac", RATE, 2, 192_000),
}


def write_clips(folder: Path, extensions: Sequence[str], *, seed: int) -> list[Path]:
    """Write one clip for each extension and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, extension in enumerate(extensions):
        song = compose(GENRES[number % len(GENRES)], 1000 * seed + number, CLIP_S + 10)
        path = folder / f"{number:02d}.{extension}"
        encode(path, song.samples[:, : int(CLIP_S * RATE)], ENCODINGS[extension], {"title": f"clip {number}"})
        paths.append(path)
    return paths
