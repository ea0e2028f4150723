"""PCA fitted on a library in batches equals scikit-learn's on all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from sklearn.decomposition import PCA

from tests.tables import make_tracks
from tonearm.errors import UsageError
from tonearm.exports.export import export
from tonearm.exports.projection import Moments


def rows(count: int = 500, dim: int = 24) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + 100).astype(np.float32)


def test_equals_scikit_learn() -> None:
    data = rows()
    moments = Moments()
    for part in np.array_split(data, 7):
        moments.add(part)
    found = moments.fit(8)
    expected = PCA(8, svd_solver="full").fit(data.astype(np.float64))
    np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-5)
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_, rtol=1e-4)
    signs = np.sign((found.components * expected.components_).sum(axis=1))
    np.testing.assert_allclose(found.components, expected.components_ * signs[:, None], atol=1e-4)
    np.testing.assert_allclose(found.apply(data), expected.transform(data) * signs, atol=2e-2)


def test_the_order_of_batches_does_not_matter() -> None:
    data = rows()
    first, second = Moments(), Moments()
    first.add(data)
    for part in np.array_split(data[::-1], 50):
        second.add(part)
    np.testing.assert_allclose(first.fit(5).components, second.fit(5).components, atol=1e-4)


@pytest.mark.parametrize("dim", [0, 25])
def test_more_components_than_there_are_is_refused(dim: int) -> None:
    moments = Moments()
    moments.add(rows())
    with pytest.raises(UsageError, match="expected 1 to 24: the library has 500 embeddings of 24 numbers"):
        moments.fit(dim)


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
