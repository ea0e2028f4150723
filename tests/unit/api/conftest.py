"""A file of settings with every kind of table."""

from __future__ import annotations

from pathlib import Path

import pytest

FILE = """
workers = 3
limit = 5
[models]
precision = "bf16"
batch_size = 2
[fetch]
timeout_s = 7.0
[tag]
limit = 9
[tag.models]
batch_size = 4
[serve]
port = 9000
[serve.fetch]
timeout_s = 8.0
[train]
epochs = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "settings.toml").write_text(FILE)
    return tmp_path / "settings.toml"
