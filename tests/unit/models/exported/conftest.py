"""A described graph, and a cache of each module's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import caches
from tests.graphs import save_described


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep nothing from one run of the tests for the next: a graph that was read before needs no child."""
    with pytest.MonkeyPatch.context() as patch:
        caches.keep_in(patch, tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, _cache: None) -> Path:
    """The folder of a graph that takes waveforms, with windows that overlap."""
    return save_described(tmp_path_factory.mktemp("models") / "wave", hop_s=0.2, licence="MIT")
