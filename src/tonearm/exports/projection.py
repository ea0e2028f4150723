"""A projection of embeddings to fewer numbers, fitted on the library itself: principal component analysis.

Exact, in two passes over the rows and O(dim²) memory whatever the library's size: the first sums means and products,
the second projects. Source: Jolliffe, Principal Component Analysis (2002), chapter 2.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import UsageError
from tonearm.wording import counted


@dataclasses.dataclass(frozen=True)
class Projection:
    """``(x - mean) @ components.T``.

    Attributes:
        mean: float32 [dim].
        components: float32 [num_components, dim], orthonormal, by falling variance.
        explained: float32 [num_components], the share of the library's variance along each.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    explained: NDArray[np.float32]

    def apply(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 [tracks, num_components] of ``embeddings`` [tracks, dim]."""
        projected: NDArray[np.float32] = (embeddings - self.mean).astype(np.float32) @ self.components.T
        return projected


class Moments:
    """Mean and scatter matrix of rows that come in batches."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(0)
        self.scatter = np.zeros((0, 0))

    def add(self, rows: NDArray[np.float32]) -> None:
        """Take in ``rows`` [n, dim].

        Raises:
            ValueError: rows of another length than those before.
        """
        if not len(rows):
            return
        # Products of float32 lose the small components of embeddings whose mean is large.
        block = rows.astype(np.float64)
        if not self.count:
            self.mean, self.scatter = np.zeros(block.shape[1]), np.zeros((block.shape[1], block.shape[1]))
        mean = block.mean(axis=0)
        centred, shift = block - mean, mean - self.mean
        total = self.count + len(block)
        # Chan, Golub and LeVeque's update: no large sums to subtract from each other.
        self.scatter += centred.T @ centred + np.outer(shift, shift) * (self.count * len(block) / total)
        self.mean = self.mean + shift * (len(block) / total)
        self.count = total

    def fit(self, num_components: int) -> Projection:
        """Return the projection onto the directions of greatest variance.

        The sign of a component is free; here its largest number is positive, so the same library gives the same one.

        Raises:
            UsageError: more components than numbers in an embedding, or than tracks.
        """
        most = min(len(self.mean), self.count)
        if not 1 <= num_components <= most:
            raise UsageError(
                f"got a projection to {counted(num_components, 'number')}, expected 1 to {most}: the library has "
                f"{counted(self.count, 'embedding')} of {counted(len(self.mean), 'number')}"
            )
        # scatter is not divided by the count: that changes neither directions nor shares.
        variances, vectors = np.linalg.eigh(self.scatter)
        order = np.argsort(variances)[::-1][:num_components]
        components = vectors[:, order].T
        # eigh may give either sign.
        largest = components[np.arange(num_components), np.abs(components).argmax(axis=1)]
        components *= np.where(largest < 0, -1.0, 1.0)[:, None]
        shares = np.maximum(variances[order], 0) / max(float(np.maximum(variances, 0).sum()), np.finfo(float).tiny)
        return Projection(self.mean.astype(np.float32), components.astype(np.float32), shares.astype(np.float32))
