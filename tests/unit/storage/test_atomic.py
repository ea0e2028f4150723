"""Files and folders that appear whole or not at all, and leave nothing beside them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tonearm.storage.atomic import first_folder, replacing, replacing_folder

FOLDERS = (first_folder, replacing_folder)


def test_a_file_takes_its_place_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with pytest.raises(KeyError), replacing(target) as partial:
        partial.write_text("half")
        raise KeyError
    assert list(target.parent.iterdir()) == []
    with replacing(target) as partial:
        partial.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_takes_its_place_only_when_the_block_ends_well(
    folder: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    target = tmp_path / "new" / "model"
    with pytest.raises(KeyError), folder(target) as partial:
        partial.mkdir()
        (partial / "a").write_text("half")
        raise KeyError
    assert list(target.parent.iterdir()) == []
    with folder(target) as partial:
        partial.mkdir()
        (partial / "a").write_text("whole")
        assert not target.exists()
    assert (target / "a").read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(("folder", "stays"), [(first_folder, "theirs"), (replacing_folder, "ours")])
def test_a_folder_that_came_meanwhile(
    folder: Callable[[Path], AbstractContextManager[Path]], stays: str, tmp_path: Path
) -> None:
    target = tmp_path / "model"
    with folder(target) as partial:
        partial.mkdir()
        (partial / "ours").touch()
        target.mkdir()
        (target / "theirs").touch()
    assert [path.name for path in target.iterdir()] == [stays]
    assert list(tmp_path.iterdir()) == [target]
