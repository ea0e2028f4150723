"""A folder of a store is copied once, and again when an object in it changes."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from tonearm.errors import SourceError
from tonearm.storage.download import local_copy


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a model's folder in a store; copies go below ``tmp_path``."""
    monkeypatch.setattr("tonearm.storage.download.cache_folder", lambda: tmp_path / "cache")
    store = fsspec.filesystem("memory")
    for name in ("config.json", "model.safetensors", "README.md", "sub/config.json"):
        store.pipe_file(f"/{tmp_path.name}/net/{name}", name.encode())
    return f"memory://{tmp_path.name}/net"


def test_files_that_match_are_copied_once(url: str) -> None:
    folder = local_copy(url, ["*.json", "*.safetensors"])
    assert folder.name == "net"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    (folder / "config.json").write_text("from the copy")
    assert local_copy(f"{url}/", ["*.json", "*.safetensors"]) == folder
    assert (folder / "config.json").read_text() == "from the copy", "it is not fetched again"


def test_a_changed_object_makes_another_copy(url: str) -> None:
    before = local_copy(url, ["*.json"])
    fsspec.filesystem("memory").pipe_file(f"{url.removeprefix('memory:/')}/config.json", b"{}")
    after = local_copy(url, ["*.json"])
    assert after != before
    assert (after / "config.json").read_bytes() == b"{}"


@pytest.mark.parametrize("place", ["", "/missing"])
def test_a_folder_without_such_files_is_one_line(url: str, place: str) -> None:
    with pytest.raises(SourceError, match=r"holds none of \*\.onnx"):
        local_copy(url + place, ["*.onnx"])
