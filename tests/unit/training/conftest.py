"""What the tests of training begin with, made once for all of them and read only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import AST, save_small
from tests.labelled import write_folders
from tests.made_once import made_once


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small HuBERT with a classifier of seven labels."""
    return made_once(tmp_path_factory, "training-start", lambda folder: save_small(folder, "hubert"))


@pytest.fixture(scope="session")
def ast_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small spectrogram transformer for windows of 1.28 s."""
    return made_once(tmp_path_factory, "training-ast", lambda folder: save_small(folder, AST, max_length=128))


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of ten clips, a folder a class."""
    return made_once(tmp_path_factory, "training-sounds", lambda folder: write_folders(folder, clips=10))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for decoded clips, so that ``collection`` is decoded once."""
    return tmp_path_factory.mktemp("training-cache")
