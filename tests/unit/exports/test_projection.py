"""PCA fitted on a library in batches equals scikit-learn's on all of it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tonearm.errors import UsageError
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
