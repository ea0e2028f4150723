"""A disk that fills up: a run says so and goes on when there is space, and a server goes on without it."""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from tests.chaos.test_kill import assert_equal
from tests.commands import finished_files, read_tracks
from tests.one_process import tonearm
from tests.serving import serving
from tonearm.demo.library import write_library

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"needs the right to mount a file system ({made.stderr.strip()})")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_stops_the_run_until_there_is_space(small_disk: Path, tmp_path: Path) -> None:
    """A disk that fills up stops the run with one line; it resumes when there is space."""
    library, settings = tmp_path / "library", tmp_path / "blocks.toml"
    write_library(library, num_tracks=20, seed=8, min_s=8, max_s=12)
    settings.write_text("tracks_per_block = 2\n")
    filler, out = small_disk / "filler", small_disk / "out"
    filler.write_bytes(bytes(2 * 2**20 - 130 * 1024))  # what is left holds the manifest and a few files
    command = ["tag", library, "--demo-models", "--config", settings, "--out"]
    full = tonearm(*command, out)
    assert full.returncode == 4, full.stderr
    last = full.stderr.strip().splitlines()[-1]
    assert "is full" in last and "Free some space and run the same command to resume" in last
    assert "Traceback" not in full.stderr
    before = len(finished_files(out))
    filler.unlink()
    again = tonearm(*command, out)
    assert again.returncode == 0, again.stderr
    assert before and "done before" in again.stderr
    undisturbed = tonearm(*command, tmp_path / "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert_equal(read_tracks(out), read_tracks(tmp_path / "undisturbed"))


def test_a_server_needs_no_room_to_answer(small_disk: Path) -> None:
    """With a full temporary disk every route of a server answers as before, and goes on counting."""
    with serving(TMPDIR=str(small_disk)) as server:
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        song = io.BytesIO()
        soundfile.write(song, np.random.default_rng(0).normal(0, 0.1, 32000), 16000, format="WAV")
        for path in ("/healthz", "/v1/models", "/metrics", "/", "/docs", "/healthz"):
            assert httpx.get(server.url + path, timeout=20).status_code == 200, path
        assert httpx.post(f"{server.url}/v1/tag", content=song.getvalue(), timeout=60).status_code == 200
        assert server.metrics()['tonearm_requests_total{method="GET",route="/healthz",status="200"}'] >= 2
