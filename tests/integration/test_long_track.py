"""Three hours of audio: scored to the end, no process above 2 GiB and nothing spilled, other files in the mix."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.checkpoints import AST, save_small
from tests.commands import PeakMemory, read_tracks, start_tonearm

HOURS_S = 3 * 3600.0
LIMIT_BYTES = 2 * 2**30


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A track of three hours and six of seconds."""
    library = tmp_path_factory.mktemp("library")
    rate = 22050
    hum = (0.3 * np.sin(np.arange(rate * 60) * 0.05)).astype(np.float32)
    with soundfile.SoundFile(library / "set.flac", "w", rate, 1) as file:
        for minute in range(180):
            file.write(hum if minute < 179 else hum * 0.1)
    for number in range(6):
        soundfile.write(library / f"short {number}.wav", hum[: rate * (5 + number)], rate)
    return library


@pytest.mark.slow
@pytest.mark.parametrize("max_windows", [None, 12])
def test_a_track_of_three_hours_is_tagged(max_windows: int | None, library: Path, tmp_path: Path) -> None:
    """Three hours of audio are one row, and no process exceeds 2 GiB for it."""
    out = tmp_path / "out"
    tiny = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    tags = save_small(tmp_path / "ast", AST, patch_size=16, frequency_stride=64, time_stride=64, **tiny)
    genre = save_small(tmp_path / "hubert", "hubert", conv_dim=(8, 8, 8), conv_stride=(10, 8, 8), **tiny)
    options = ["--max-windows", str(max_windows)] if max_windows else []
    process = start_tonearm("tag", library, "--out", out, "--genre-model", genre, "--tag-model", tags, *options)
    memory = PeakMemory(process.pid)
    memory.start()
    _, errors = process.communicate(timeout=600)
    memory.ended.set()
    memory.join()
    assert process.returncode == 0, errors
    rows = {Path(row["uri"]).name: row for row in read_tracks(out).to_pylist()}
    assert len(rows) == 7 and all(row["status"] == "ok" for row in rows.values())
    row = rows["set.flac"]
    assert row["duration_s"] == pytest.approx(HOURS_S)
    starts = [window["start_s"] for window in row["windows"]]
    assert row["windows"][-1]["end_s"] == pytest.approx(HOURS_S)
    if max_windows:
        assert len(starts) == 12
        assert row["coverage"] == pytest.approx(12 * 10.24 / HOURS_S, abs=1e-4)
        assert np.diff(starts) == pytest.approx((HOURS_S - 10.24) / 11, abs=0.01)
    else:
        assert len(starts) == int(np.ceil(HOURS_S / 10.24))
        assert row["coverage"] == pytest.approx(1.0)
    assert max(memory.peaks.values()) < LIMIT_BYTES, memory.peaks
    assert any("sandbox_child" in name for name in memory.peaks)
    (summary,) = (out / "runs").glob("*.json")
    assert json.loads(summary.read_text())["speed"]["spilled_bytes"] == 0
