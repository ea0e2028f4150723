"""A run that verbs are asked about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tables import make_error, make_row, make_run, write_tracks
from tonearm.runs.manifest import manifest
from tonearm.sources.listing import list_tracks


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run over three tracks, one of which failed."""
    listed = tmp_path / "music.csv"
    listed.write_text("uri\n" + "".join(f"s3://records/{number}.mp3\n" for number in range(3)))
    random, folder = np.random.default_rng(0), tmp_path / "out"
    refs = list(list_tracks([str(listed)]))
    rows = [make_row(place, random, track_key=ref.track_key, uri=ref.uri) for place, ref in enumerate(refs[:2])]
    rows.append(make_error(2, random, track_key=refs[2].track_key, uri=refs[2].uri, error_code="corrupt"))
    write_tracks(folder, rows)
    manifest.write_manifest([str(listed)], str(folder / "manifest"))
    make_run(folder)
    return folder
