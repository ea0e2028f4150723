"""Objects are read and written alike in folders and in stores, and every refusal is one clear line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tonearm.errors import DestinationError, SourceError
from tonearm.storage import filesystems


@pytest.fixture(params=["file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a folder that is not there yet, on disk and in a store."""
    return str(tmp_path / "new") if request.param == "file" else f"memory://{tmp_path.name}/new"


def test_what_is_written_is_read_back(folder: str) -> None:
    filesystems.write_bytes(f"{folder}/a b#.bin", b"12345")
    filesystems.write_text(f"{folder}/sub/c.txt", "é")
    filesystems.write_table(f"{folder}/t.parquet", pa.table({"x": [1, 2], "y": ["a", "b"]}))
    assert filesystems.read_bytes(f"{folder}/a b#.bin") == b"12345"
    assert filesystems.read_bytes(f"{folder}/a b#.bin", max_bytes=2) == b"12"
    assert filesystems.read_bytes(f"{folder}/sub/c.txt") == "é".encode()
    assert filesystems.read_table(f"{folder}/t.parquet", ["y"]).to_pydict() == {"y": ["a", "b"]}
    assert filesystems.list_files(folder) == ["a b#.bin", "t.parquet"], "folders are left out"


def test_what_is_not_there(folder: str) -> None:
    assert filesystems.list_files(folder) == []
    assert not filesystems.exists(f"{folder}/a")
    filesystems.delete(f"{folder}/a")
    with pytest.raises(FileNotFoundError):
        filesystems.read_bytes(f"{folder}/a")


def test_only_the_first_of_two_creates_an_object(folder: str) -> None:
    filesystems.create_bytes(f"{folder}/lock", b"first")
    with pytest.raises(FileExistsError):
        filesystems.create_bytes(f"{folder}/lock", b"second")
    assert filesystems.read_bytes(f"{folder}/lock") == b"first"
    filesystems.delete(f"{folder}/lock")
    filesystems.create_bytes(f"{folder}/lock", b"third")


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DestinationError) as caught:
        filesystems.write_text(str(tmp_path / "file" / "a.txt"), "x")
    assert str(tmp_path) in caught.value.message and "\n" not in caught.value.message
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"unknown scheme nowhere://; expected one of s3://, gs://"):
        filesystems.locate("nowhere://a/b")


def test_the_file_that_marks_the_end_is_copied_last(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.json", "a.bin", "z.bin"):
        (tmp_path / name).write_text(name)
    written: list[str] = []
    write = filesystems.write_bytes

    def write_bytes(url: str, data: bytes) -> None:
        written.append(url.rpartition("/")[2])
        write(url, data)

    monkeypatch.setattr(filesystems, "write_bytes", write_bytes)
    assert filesystems.copy_files(tmp_path, folder, last="config.json") == ["a.bin", "config.json", "z.bin"]
    assert written == ["a.bin", "z.bin", "config.json"]
    assert filesystems.list_files(folder) == ["a.bin", "config.json", "z.bin"]
