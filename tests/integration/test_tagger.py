"""``tonearm.Tagger``, ``tonearm.tag_file`` and ``tonearm tag FILE``: single files, in this process, without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

import tonearm
from tests import commands
from tests.one_process import tonearm as command
from tonearm import demo
from tonearm.cli.tag_files import lines
from tonearm.errors import DecodeError, SourceError, UsageError
from tonearm.settings import ModelSettings


@pytest.fixture(scope="module")
def tagger() -> Iterator[tonearm.Tagger]:
    with tonearm.Tagger(demo_models=True) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def song(songs: Path) -> Path:
    return sorted(songs.glob("*/*.flac"))[0]


def test_a_path_bytes_and_samples_say_the_same(tagger: tonearm.Tagger, song: Path) -> None:
    result = tagger(song)
    assert result.genre == result.genre_scores[0].label and 0 < result.genre_score <= 1
    assert result.title and result.artist and result.codec == "flac" and 11 < result.duration_s < 17
    assert result.windows[0].start_s == 0 and result.tags and not result.silent
    assert len(result.genre_embedding) == len(result.tag_embedding) == 128
    assert "@sha256:" in result.genre_model
    assert tagger(song.read_bytes()) == result == tagger(str(song))
    samples, rate = soundfile.read(song, dtype="float32")
    of_samples = tagger(samples.T, sample_rate=rate)
    assert (of_samples.genre, of_samples.title) == (result.genre, None)
    assert of_samples.genre_score == pytest.approx(result.genre_score, abs=1e-4)
    assert of_samples.duration_s == pytest.approx(result.duration_s, abs=0.05)
    as_int16 = tagger((samples.T * 32767).astype(np.int16), sample_rate=rate)
    assert as_int16.genre_score == pytest.approx(result.genre_score, abs=1e-3)


def test_it_says_what_a_run_says(tagger: tonearm.Tagger, song: Path) -> None:
    from tonearm.audio.sandbox import DecodeSandbox
    from tonearm.settings import DecodeSettings
    from tonearm.tagging import Tagger, tag_bytes

    with DecodeSandbox(DecodeSettings()) as sandbox:
        expected = tag_bytes(song.read_bytes(), sandbox, Tagger.load(ModelSettings(**demo.models())))
    result = tagger(song)
    assert expected.genre is not None and expected.tags is not None
    assert [(each.label, each.score) for each in result.genre_scores or []] == [
        (label, pytest.approx(score, abs=1e-4)) for label, score in expected.genre.scores
    ]
    np.testing.assert_allclose(result.tag_embedding, expected.tags.embedding, atol=1e-3)


def test_only_one_head(song: Path) -> None:
    with tonearm.Tagger(genre_model=demo.genre_model_path(), tag_model="none", max_windows=1) as one:
        result = one(song)
    assert result.genre and result.tags is None and len(result.windows) == 1


def test_input_that_is_not_audio_is_refused_in_one_line(tagger: tonearm.Tagger, songs: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp3").write_bytes(b"<html>" * 100)
    with pytest.raises(UsageError, match="is a folder, expected one track"):
        tagger(songs)
    with pytest.raises(SourceError, match="no file or folder"):
        tagger(tmp_path / "none.mp3")
    with pytest.raises(DecodeError, match="FFmpeg"):
        tagger(tmp_path / "broken.mp3")
    with pytest.raises(DecodeError, match="0 bytes"):
        tagger(b"")
    with pytest.raises(SourceError, match="cannot be reached"):
        tagger("http://127.0.0.1:9/song.mp3")


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(16000, np.float32), None, "sample_rate=None"),
        (np.zeros(16000, np.float32), 0, "sample_rate=0"),
        (np.zeros((16000, 2), np.float32), 16000, "transpose"),
        (np.zeros((2, 2, 100), np.float32), 16000, r"shape \(2, 2, 100\)"),
        (np.zeros(16000, np.uint8), 16000, "uint8"),
        (np.full(16000, np.nan, np.float32), 16000, "finite"),
    ],
)
def test_samples_of_another_form_are_refused(
    tagger: tonearm.Tagger, samples: np.ndarray, rate: int | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        tagger(samples, sample_rate=rate)


def test_silence_is_silent(tagger: tonearm.Tagger) -> None:
    assert tagger(np.zeros(32000, np.float32), sample_rate=16000).silent


def test_the_models_stay_loaded_between_calls(song: Path) -> None:
    from tonearm.api import tagger as module

    first = tonearm.tag_file(song, demo_models=True)
    kept = module._KEPT._last
    assert kept is not None and tonearm.tag_file(song, demo_models=True) == first
    assert module._KEPT._last is kept
    child = kept._sandbox.child_pid
    tonearm.tag_file(song, demo_models=True, max_windows=1)
    assert module._KEPT._last is not kept
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    module._KEPT.close()


def test_no_ray_takes_part(song: Path) -> None:
    code = f"import sys, tonearm; tonearm.tag_file({str(song)!r}, demo_models=True); assert 'ray' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_command_shows_each_file(songs: Path, tmp_path: Path) -> None:
    files = sorted(songs.glob("*/*.flac"))[:2]
    before = sorted(tmp_path.iterdir())
    run = commands.tonearm("tag", *files, "--demo-models", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "know only synthesized music" in run.stderr
    for file in files:
        assert str(file) in run.stdout
    assert run.stdout.count("genre ") == run.stdout.count("tags ") == run.stdout.count("audio ") == 2
    assert "timeline" in run.stdout and "flac 44.1 kHz" in run.stdout
    assert sorted(tmp_path.iterdir()) == before


def test_further_heads_are_shown(song: Path) -> None:
    """A head beside genre and tags says in Python, and in the terminal, what its model says as one of those."""
    model = demo.models()["genre_model"]
    with tonearm.Tagger(demo_models=True, heads={"style": model}) as tagger:
        result = tagger(song)
    style = result.heads["style"]
    assert (style.label, style.scores) == (result.genre, result.genre_scores)
    assert style.score == pytest.approx(result.genre_score) and style.embedding == result.genre_embedding
    assert ("style", f"{style.label} {style.score:.2f}") in lines(result)


def test_the_command_prints_json_and_goes_on_after_a_broken_file(songs: Path, tmp_path: Path) -> None:
    song = sorted(songs.glob("*/*.flac"))[0]
    (tmp_path / "broken.mp3").write_bytes(b"<html>" * 100)
    run = command("tag", tmp_path / "broken.mp3", song, "--demo-models", "--json")
    assert run.returncode == 3
    (line,) = run.stdout.splitlines()
    result = json.loads(line)
    assert result["uri"] == str(song) and result["genre"] and result["windows"]
    assert "broken.mp3: not_audio" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["."], "is a folder, expected one track; to tag all that is in it"),
        (["no.mp3"], "no file or folder"),
        (["no.mp3", "--workers", "2"], "got --workers without --out"),
        (["no.mp3", "--rescore", "genre"], "got --rescore without --out"),
    ],
)
def test_the_command_refuses_in_one_line(arguments: list[str], says: str, songs: Path) -> None:
    run = command("tag", *arguments, "--demo-models", cwd=songs)
    assert run.returncode == 2
    assert says in run.stderr and len(run.stderr.splitlines()) == 1, run.stderr
