"""Exported embeddings are those of the rows, or their projection by the numbers saved beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from tests.tables import make_tracks
from tonearm.errors import UsageError
from tonearm.exports.export import export


@pytest.mark.parametrize("dim", [None, 3])
def test_export_of_embeddings(tmp_path: Path, dim: int | None) -> None:
    make_tracks(tmp_path, 200, error_share=0.1)
    counts = export(str(tmp_path), "embeddings", str(tmp_path / "e.parquet"), dim=dim)
    found = pq.read_table(tmp_path / "e.parquet")
    stored = pq.read_table(tmp_path / "tracks")
    stored = stored.filter(np.array(stored["status"].to_pylist()) == "ok")
    assert counts.num_tracks == found.num_rows == stored.num_rows
    assert found["track_key"].to_pylist() == stored["track_key"].to_pylist()
    raw = np.array(stored["tag_embedding"].to_pylist(), np.float32)
    shown = np.array(found["tag_embedding"].to_pylist(), np.float32)
    if dim is None:
        np.testing.assert_array_equal(shown, raw)
        return
    kept = load_file(tmp_path / "e.projection.safetensors")
    np.testing.assert_allclose(shown, (raw - kept["tag.mean"]) @ kept["tag.components"].T, atol=1e-5)
    assert shown.shape == (len(raw), 3)
    with pytest.raises(UsageError, match="expected 1 to 8"):
        export(str(tmp_path), "embeddings", str(tmp_path / "f.parquet"), dim=9)
    assert not (tmp_path / "f.parquet").exists()
