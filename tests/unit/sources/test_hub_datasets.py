"""Which addresses are data sets and rows of them, without the package that reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.sources.hub_datasets import is_row, is_saved


@pytest.mark.parametrize("name", ["dataset_dict.json", "state.json"])
def test_a_folder_that_was_saved_by_datasets_is_known_by_its_state(tmp_path: Path, name: str) -> None:
    assert not is_saved(str(tmp_path))
    (tmp_path / name).write_text("{}")
    assert is_saved(str(tmp_path))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("hf://datasets/owner/name#train/7", True),
        ("arrow+file:///music/set#all/0", True),
        ("hf://datasets/owner/name", False),
        ("/music/a#b/1", False),
        ("https://host/a#train/7", False),
    ],
)
def test_a_row_is_known_by_its_address(uri: str, expected: bool) -> None:
    assert is_row(uri) is expected
