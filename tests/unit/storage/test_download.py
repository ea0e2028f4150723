"""A model folder in an object store is downloaded once, and again when it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.errors import SourceError
from tonearm.storage.download import local_copy


def test_a_folder_in_a_store_is_copied_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = fsspec.filesystem("memory")
    store.pipe({"/shelf/model/config.json": b"{}", "/shelf/model/model.safetensors": b"1", "/shelf/model/notes": b"-"})
    first = local_copy("memory://shelf/model", ["*.json", "*.safetensors"])
    assert {path.name for path in first.iterdir()} == {"config.json", "model.safetensors"}
    assert first.name == "model"
    assert local_copy("memory://shelf/model", ["*.json", "*.safetensors"]) == first
    store.pipe({"/shelf/model/model.safetensors": b"22"})
    second = local_copy("memory://shelf/model", ["*.json", "*.safetensors"])
    assert second != first
    assert (second / "model.safetensors").read_bytes() == b"22"
    with pytest.raises(SourceError, match="holds none of"):
        local_copy("memory://shelf/nothing", ["*.json"])
    assert not list((tmp_path / "tonearm" / "models").rglob("*.partial"))
