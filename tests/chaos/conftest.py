"""What the suites that kill things share: a library, small blocks, and the table of a run that no one disturbs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.commands import read_tracks
from tests.made_once import made_once
from tests.one_process import tonearm


@pytest.fixture(scope="session")
def library(music: Path) -> Path:
    return music


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "small-blocks.toml"
    path.write_text("tracks_per_block = 2\n[cluster]\nhead_timeout_s = 10\n")
    return path


@pytest.fixture(scope="session")
def undisturbed_out(library: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(out: Path) -> None:
        run = tonearm("tag", library, "--out", out, "--demo-models", "--config", settings)
        assert run.returncode == 0, run.stderr

    return made_once(tmp_path_factory, "undisturbed", make)


@pytest.fixture(scope="session")
def undisturbed(undisturbed_out: Path) -> pa.Table:
    return read_tracks(undisturbed_out)
