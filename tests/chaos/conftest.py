"""What the suites that kill things share: small blocks, and the table of a run that no one disturbs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.commands import read_tracks
from tests.one_process import tonearm


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "small-blocks.toml"
    path.write_text("tracks_per_block = 2\n[cluster]\nhead_timeout_s = 10\n")
    return path


@pytest.fixture(scope="module")
def undisturbed_out(library: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    run = tonearm("tag", library, "--out", out, "--demo-models", "--config", settings)
    assert run.returncode == 0, run.stderr
    return out


@pytest.fixture(scope="module")
def undisturbed(undisturbed_out: Path) -> pa.Table:
    return read_tracks(undisturbed_out)
