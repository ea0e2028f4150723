"""What the tests of models begin with, made once and read only, and copies of it to break."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tests import caches
from tests.checkpoints import AST, save_small
from tests.made_once import made_once
from tests.musicnn_wheel import random_variables, write_wheel
from tonearm.models.musicnn import wheel


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small models of three families: a waveform, a spectrogram of one size, and Whisper's encoder."""

    def make(folder: Path) -> None:
        for family in ("hubert", AST, "whisper"):
            save_small(folder / family, family)

    return made_once(tmp_path_factory, "models", make)


@pytest.fixture(scope="session")
def hubert(checkpoints: Path) -> Path:
    """A small HuBERT with a classifier of seven labels."""
    return checkpoints / "hubert"


@pytest.fixture
def broken(checkpoints: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of a model, of HuBERT where the test names no family, for the test to break."""
    return Path(shutil.copytree(checkpoints / getattr(request, "param", "hubert"), tmp_path / "broken"))


@pytest.fixture(scope="session")
def made_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the published wheel is, with the weights for which TensorFlow's logits are in the golden."""
    variables = {"MTT_musicnn": random_variables(), "MSD_musicnn": random_variables(1)}
    return made_once(tmp_path_factory, "wheel", lambda folder: write_wheel(folder / wheel.FILE, variables)) / wheel.FILE


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_wheel: Path) -> Path:
    """An empty cache, for which the made wheel is the published one."""
    caches.keep_in(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(made_wheel.read_bytes()).hexdigest())
    return tmp_path / "cache"
