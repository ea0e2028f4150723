"""Make ``destinations_0_1_0``: destinations as tonearm 0.1.0 left them, by running 0.1.0 itself.

::

    git worktree add --detach /tmp/at-0.1.0 c7a9c14
    python -m tests.data.make_destinations_0_1_0 /tmp/at-0.1.0
    git worktree remove /tmp/at-0.1.0

Eight short synthesized songs, a file that is no audio and one that is none by its name are tagged by the demo models:

==========  ===========================================================================================
finished    every track has its row: eight ok, one failed
killed      all processes killed while rows were being written: some files finished, at least one pending
compacted   ``finished``, then ``tonearm compact``
doubled     ``finished``, then one of its files copied under another name
genre-only  without tags: ``--tag-model none``
replaced    ``finished``, then one file replaced by another song with an older time, and tagged again
deleted     ``finished``, then one file deleted and one renamed, and tagged again
==========  ===========================================================================================

Paths, keys, the lock's holder and the facts of the machine are then replaced by neutral ones, ``report.html`` is left
out; see ``tests.old_destinations``. It takes some two minutes. Ids of runs and names of files differ each time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.commands import environment, finished_files, wait_for
from tests.old_destinations import HOST, KEPT, LIBRARY, OUT, move, set_holder
from tests.rays import Nodes, nodes
from tonearm.demo.library import Encoding, encode
from tonearm.demo.songs import compose
from tonearm.planning.layout import local_cpus

# Small files of several codecs: the songs are most of what is kept.
ENCODINGS = (
    Encoding("mp3", "libmp3lame", 22050, 1, 32_000),
    Encoding("opus", "libopus", 48000, 1, 32_000),
    Encoding("m4a", "aac", 22050, 1, 32_000),
    Encoding("flac", "flac", 8000, 1),
)
GENRES = ("techno", "rock", "ambient", "jazz", "folk", "chiptune", "classical", "hip hop", "drum and bass")
SONG_S = 4.0
BROKEN, NOTES = "broken download.mp3", "notes.txt"
# 2025-11-20, noon UTC; a second later for each file.
FIRST_S = 1_763_640_000
REPLACED, DELETED, RENAMED = 0, 1, 2
# Two tracks a file of rows, so that a killed run has some files and lacks others; one of nine fails.
CONFIG = "tracks_per_block = 2\nmax_error_rate = 0.2\n"
# Runs as ``tonearm``. Once two files are finished, a write waits while its own is whole and its mark still pending.
HELD = """
import pathlib, sys, time
from tonearm import cli
from tonearm.distributed import stages

out = pathlib.Path(sys.argv.pop(1))

class HeldSink(stages.TracksSink):
    def write(self, blocks, ctx):
        super().write(blocks, ctx)
        marks = [path.name for path in out.glob("_checkpoint/*/*.parquet")]
        if sum(not name.endswith(".pending.parquet") for name in marks) >= 2:
            (out / "held").touch()
            time.sleep(3600)

stages.TracksSink = HeldSink
cli.main()
"""


@dataclasses.dataclass
class File:
    """A file of the library: which of the songs it is, and its time."""

    song: str
    modified_s: int


class Maker:
    """Tags a library with the ``tonearm`` of a checkout, all runs on one Ray, and keeps what that leaves."""

    def __init__(self, checkout: Path, folder: Path, ray: Nodes) -> None:
        self.checkout, self.folder, self.ray = checkout, folder, ray
        self.library = folder / "library"
        self.config = folder / "small-blocks.toml"
        self.config.write_text(CONFIG)
        self.models = self.checkout / "src" / "tonearm" / "demo" / "models"

    def write_library(self, files: dict[str, File]) -> None:
        """Have the library hold these files and no others."""
        shutil.rmtree(self.library, ignore_errors=True)
        for path, file in files.items():
            target = self.library / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(KEPT / "songs" / file.song, target)
            os.utime(target, ns=(file.modified_s * 10**9,) * 2)

    def run(self, *arguments: str | Path) -> None:
        """Run a command of 0.1.0 to its end."""
        subprocess.run(
            [sys.executable, "-m", "tonearm", *map(str, arguments)],
            env=self._environment(),
            cwd=self.folder,
            check=True,
        )

    def tag(self, out: Path, *models: str | Path) -> None:
        """Tag the library, by default with both demo models."""
        self.run("tag", *self._arguments(out, *models))

    def tag_and_kill(self, out: Path) -> None:
        """Tag the library, and kill all processes, Ray's too, between a file of rows and its finished mark."""
        process = subprocess.Popen(
            [sys.executable, "-c", HELD, str(out), "tag", *map(str, self._arguments(out))],
            env=self._environment(),
            cwd=self.folder,
        )
        held = out / "held"
        wait_for(lambda: held.exists() or process.poll() is not None, what="a file of rows whose mark is pending")
        process.kill()
        process.wait()
        self.ray.kill_all()
        held.unlink()
        assert finished_files(out), "no file of rows was finished"

    def keep(self, name: str, out: Path, files: dict[str, File]) -> None:
        """Keep a destination and what its library is, with nothing of this machine in them."""
        target = KEPT / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(out, target / "out", ignore=shutil.ignore_patterns("report.html"))
        library = {path: dataclasses.asdict(file) for path, file in sorted(files.items())}
        (target / "library.json").write_text(json.dumps(library, indent=1) + "\n")
        places = {str(self.library): LIBRARY, str(out): OUT, str(self.folder): "", str(self.checkout): "/opt/tonearm"}
        move(target / "out", places)
        set_holder(target / "out", host=HOST, pid=4711)
        for path in (target / "out" / "runs").glob("*.json"):
            run = json.loads(path.read_text())
            run["machine"] |= {"cpu": "a processor", "num_cores": 2, "memory_bytes": 8 * 2**30, "gpus": []}
            path.write_text(json.dumps(run, indent=1, ensure_ascii=False))

    def _arguments(self, out: Path, *models: str | Path) -> list[str | Path]:
        return [self.library, "--out", out, "--config", self.config, *(models or ("--demo-models",))]

    def _environment(self) -> dict[str, str]:
        return environment(
            PYTHONPATH=str(self.checkout / "src"), RAY_ADDRESS=self.ray.address, RAY_AUTH_MODE="disabled"
        )


def write_songs() -> dict[str, File]:
    """Write the audio that is kept, one song more than the library has; return the library."""
    songs = KEPT / "songs"
    shutil.rmtree(songs, ignore_errors=True)
    songs.mkdir(parents=True)
    files = {}
    for number, genre in enumerate(GENRES):
        encoding = ENCODINGS[number % len(ENCODINGS)]
        name = f"{genre}.{encoding.extension}"
        samples = compose(genre, 7000 + number, SONG_S).samples
        encode(songs / name, samples, encoding, {"title": f"Song {number + 1}", "artist": "0.1.0", "album": genre})
        files[f"{genre.title()}/{number + 1:02d} Song.{encoding.extension}"] = File(name, FIRST_S + number)
    files.popitem()
    (songs / BROKEN).write_bytes(b"<html><body>404 Not Found</body></html>\n" * 20)
    (songs / NOTES).write_text("Synthesized by tonearm.demo; free to use.\n")
    return files | {name: File(name, FIRST_S + 100) for name in (BROKEN, NOTES)}


def make(maker: Maker) -> None:
    """Make all of them."""
    folder, files = maker.folder, write_songs()
    finished = folder / "finished"
    maker.write_library(files)
    maker.tag(finished)
    maker.keep("finished", finished, files)

    def follow(name: str) -> Path:
        return Path(shutil.copytree(finished, folder / name))

    compacted = follow("compacted")
    maker.run("compact", compacted)
    maker.keep("compacted", compacted, files)

    doubled = follow("doubled")
    first = min((doubled / "tracks").iterdir())
    shutil.copyfile(first, first.with_name(f"copy-{first.name}"))
    maker.keep("doubled", doubled, files)

    genre_only = folder / "genre-only"
    maker.tag(genre_only, "--genre-model", maker.models / "genre", "--tag-model", "none")
    maker.keep("genre-only", genre_only, files)

    paths = list(files)
    older = files | {paths[REPLACED]: File(f"{GENRES[-1]}.{ENCODINGS[0].extension}", FIRST_S - 86_400)}
    maker.write_library(older)
    replaced = follow("replaced")
    maker.tag(replaced)
    maker.keep("replaced", replaced, older)

    fewer = {path: file for path, file in files.items() if path not in (paths[DELETED], paths[RENAMED])}
    moved = Path(paths[RENAMED])
    fewer[str(moved.with_name(f"renamed {moved.name}"))] = files[paths[RENAMED]]
    maker.write_library(fewer)
    deleted = follow("deleted")
    maker.tag(deleted)
    maker.keep("deleted", deleted, fewer)

    # Last, as Ray does not survive it.
    maker.write_library(files)
    killed = folder / "killed"
    maker.tag_and_kill(killed)
    maker.keep("killed", killed, files)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("got no checkout of 0.1.0, expected its folder: python -m tests.data.make_destinations_0_1_0 FOLDER")
    checkout = Path(sys.argv[1]).resolve()
    with (
        tempfile.TemporaryDirectory(prefix="ta-old-") as temporary,
        nodes(num_workers=0, head_cpus=local_cpus(None), PYTHONPATH=str(checkout / "src"), HF_HUB_OFFLINE="1") as ray,
    ):
        make(Maker(checkout, Path(temporary).resolve(), ray))
