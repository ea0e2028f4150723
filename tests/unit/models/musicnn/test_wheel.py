"""The published wheel's models are added whole or not at all, whoever does so at the same time."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.musicnn_wheel import small_variables, write_wheel
from tonearm.errors import CheckpointError
from tonearm.models.musicnn import named, wheel


def test_a_wheel_that_is_not_the_published_one_leaves_nothing(
    empty_cache: Path, made_wheel: Path, tmp_path: Path
) -> None:
    stored = made_wheel.read_bytes()
    damaged = tmp_path / "damaged.whl"
    damaged.write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))
    for name in ("musicnn", "musicnn-msd"):
        with pytest.raises(CheckpointError, match=r"damaged\.whl has the SHA-256 [0-9a-f]{16}\.\.\., expected"):
            wheel.add(name, damaged)
    with pytest.raises(CheckpointError, match="cannot be read"):
        wheel.add("musicnn", tmp_path / "absent.whl")
    with pytest.raises(CheckpointError, match="expected one of musicnn, musicnn-msd"):
        wheel.add("vgg", made_wheel)
    assert not empty_cache.exists()


def test_a_model_that_cannot_be_read_leaves_nothing(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_wheel(tmp_path / "other.whl", {"MTT_musicnn": small_variables()})
    monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(other.read_bytes()).hexdigest())
    for name, problem in (("musicnn", "no variable"), ("musicnn-msd", "does not hold MSD_musicnn")):
        with pytest.raises(CheckpointError, match=problem):
            wheel.add(name, other)
    left = [path for path in empty_cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert not left and named.find_added("musicnn") is None


def test_several_may_add_one_model_at_once(empty_cache: Path, made_wheel: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: wheel.add("musicnn", made_wheel), range(4)))
    assert folders == {empty_cache / "models" / "added" / "musicnn"}
    assert sorted(path.name for path in folders.pop().parent.iterdir()) == ["musicnn", "musicnn.lock"]


def test_without_pip_one_line_says_how(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CheckpointError) as caught:
        wheel.add("musicnn")
    assert "--wheel FILE" in caught.value.message and "\n" not in caught.value.message


def test_a_cache_that_would_not_last_is_refused(
    monkeypatch: pytest.MonkeyPatch, made_wheel: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("TONEARM_CACHE", "")  # so that it is as before when the test is over
    monkeypatch.delenv("TONEARM_CACHE")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(made_wheel.read_bytes()).hexdigest())
    with pytest.raises(CheckpointError, match=r"file/tonearm cannot be written; set TONEARM_CACHE"):
        wheel.add("musicnn", made_wheel)
