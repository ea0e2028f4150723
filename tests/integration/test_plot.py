"""``tonearm plot``: pictures that show what is in the file."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile

from tests.one_process import tonearm
from tonearm.api import pictures
from tonearm.audio import plots
from tonearm.cli.results import plot as verb

RATE = 22050


def tone(frequency: float, length_s: float = 3.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(length_s * RATE)) / RATE)).astype(np.float32)


def test_pictures_of_a_song_with_its_timeline(songs: Path, tmp_path: Path) -> None:
    song = next(iter(sorted(songs.glob("*/*.flac"))))
    run = tonearm("plot", song, "--out", tmp_path, "--timeline", "--demo-models")
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    paths = [Path(line) for line in run.stdout.splitlines()]
    assert [path.stem.rpartition("-")[2] for path in paths] == [
        "waveform",
        "spectrum",
        "spectrogram",
        "mel",
        "timeline",
    ]
    for path in paths:
        picture = matplotlib.image.imread(path)
        assert picture.shape[0] >= 150 and picture.shape[1] == plots.SIZE[0] * plots.DPI
        assert picture.std() > 0.05, path.name


def test_a_long_track_shows_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "MAX_SHOWN_S", 2.0)
    soundfile.write(tmp_path / "long.wav", np.concatenate([tone(100), tone(3000), tone(100)]), RATE)
    shown: dict[str, float] = {}

    def write(waveform: np.ndarray, sample_rate: int, *_: object, start_s: float, **__: object) -> list[Path]:
        shown.update(length_s=len(waveform) / sample_rate, start_s=start_s)
        return []

    monkeypatch.setattr(plots, "write_pictures", write)
    assert verb.plot(str(tmp_path / "long.wav"), tmp_path) == 0
    assert shown == {"length_s": pytest.approx(2.0, abs=0.01), "start_s": pytest.approx(3.5, abs=0.01)}
    assert "middle 2 s of 9 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "says", "status"),
    [("none.wav", "no file or folder", 2), ("broken.wav", "not a file that FFmpeg can read", 3)],
)
def test_a_file_without_audio_has_no_pictures(name: str, says: str, status: int, tmp_path: Path) -> None:
    import re

    (tmp_path / "broken.wav").write_bytes(b"<html>" * 100)
    run = tonearm("plot", tmp_path / name, "--out", tmp_path)
    assert run.returncode == status, run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert re.search(says, run.stderr), run.stderr
