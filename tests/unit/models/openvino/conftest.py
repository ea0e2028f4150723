"""A converted HuBERT, in a cache of each module's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.made_once import made_once
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.openvino import cache
from tonearm.models.openvino.cache import Converted


@pytest.fixture(scope="session")
def converted_files(hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the converted HuBERT; converting takes seconds, so it is done once."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
            digest = describe_checkpoint(str(hubert)).revision
            form = cache.convert(str(hubert), hubert, digest, revision=None, allow_pickle=False, num_threads=2)
            shutil.copytree(form.folder, folder, dirs_exist_ok=True)

    return made_once(tmp_path_factory, "converted", make)


@pytest.fixture(autouse=True, scope="module")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this module's own, so that what its tests find was made by them."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "tonearm" / "models"


@pytest.fixture(scope="module")
def form(hubert: Path, model_cache: Path, converted_files: Path) -> Converted:
    """The converted HuBERT, as this module's cache has it."""
    digest = describe_checkpoint(str(hubert)).revision
    cache.unpack(digest, cache.pack(Converted(converted_files)))
    form = cache.find(hubert, digest)
    assert form is not None and form.folder.is_relative_to(model_cache)
    return form
