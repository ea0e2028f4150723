"""A local file is created only if there is none, with hard links or without them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tonearm.errors import DestinationError
from tonearm.storage import filesystems


@pytest.mark.parametrize("refusal", [None, errno.EPERM, errno.ENOTSUP])
def test_a_file_is_created_only_if_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None) -> None:
    def link(*_: object) -> None:
        raise OSError(refusal, "no links here")

    if refusal is not None:
        monkeypatch.setattr(os, "link", link)
    url = str(tmp_path / "a" / "b.json")
    filesystems.create_bytes(url, b"first")
    with pytest.raises(FileExistsError):
        filesystems.create_bytes(url, b"second")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]
    assert Path(url).read_bytes() == b"first"


def test_a_link_whose_answer_was_lost_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: Any, target: Any) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link)
    filesystems.create_bytes(str(tmp_path / "a"), b"x")
    monkeypatch.setattr(os, "link", real)
    with pytest.raises(FileExistsError):
        filesystems.create_bytes(str(tmp_path / "a"), b"x")


def test_a_full_disk_is_no_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(DestinationError, match="no space left"):
        filesystems.create_bytes(str(tmp_path / "a"), b"x")
    assert list(tmp_path.iterdir()) == []
