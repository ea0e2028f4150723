"""A labelled collection of synthesized songs, which the demo models are trained on.

python -m tonearm.demo.collection FOLDER

FOLDER/clips.csv has a row a clip of 10.24 s: file, genre, tags (those that sound in it, separated by ``;``), the song
it is from, and whether that is one to train on or one to judge by.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tonearm.demo.songs import GENRES, RATE, compose

SAMPLE_RATE = 16000
SONG_S, CLIP_S = 42.0, 10.24
# Far from the seeds to train on: no song is on both sides.
FIRST_TEST_SEED = 10_000
COLUMNS = ("file", "genre", "tags", "song", "split")
CLIPS = "clips.csv"


def write_collection(folder: Path, *, train_songs: int = 30, test_songs: int = 8, seed: int = 1) -> Path:
    """Write the songs' clips as FLAC and the table of them; return the table's path.

    Args:
        train_songs, test_songs: of each genre.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / CLIPS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for split, first, count in (("train", seed, train_songs), ("test", FIRST_TEST_SEED + seed, test_songs)):
            for number in range(first, first + count):
                for genre in GENRES:
                    writer.writerows(_write_song(folder, genre, number, split))
    return folder / CLIPS


def _write_song(folder: Path, genre: str, seed: int, split: str) -> Iterator[dict[str, str]]:
    song = compose(genre, seed, SONG_S)
    mono = soxr.resample(song.samples.mean(axis=0), RATE, SAMPLE_RATE, "HQ").astype(np.float32)
    name, length = f"{genre.lower().replace(' ', '-')}-{seed}", round(CLIP_S * SAMPLE_RATE)
    for part, start in enumerate(range(0, len(mono) - length + 1, length)):
        path = folder / f"{name}.{part}.flac"
        soundfile.write(path, mono[start : start + length], SAMPLE_RATE, subtype="PCM_16")
        tags = song.tags_between(start / SAMPLE_RATE, (start + length) / SAMPLE_RATE)
        yield {"file": path.name, "genre": genre, "tags": ";".join(sorted(tags)), "song": name, "split": split}


def main() -> None:
    """Write the collection that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tonearm.demo.collection")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train-songs", type=int, default=30, help="of each genre")
    parser.add_argument("--test-songs", type=int, default=8, help="of each genre")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(
        write_collection(
            arguments.folder,
            train_songs=arguments.train_songs,
            test_songs=arguments.test_songs,
            seed=arguments.seed,
        )
    )


if __name__ == "__main__":
    main()
