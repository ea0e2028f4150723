"""What would be published is known without the Hub, and a Space is written before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.api.publishing import publish
from tonearm.demo import models as built_in
from tonearm.errors import DestinationError, UsageError


def test_a_dry_run_sends_nothing_and_has_the_files_and_the_card(tmp_path: Path) -> None:
    done = publish(built_in()["genre_model"], "me/genres", dry_run=True, license="cc0-1.0", space=tmp_path / "space")
    assert done.said is None
    assert {"model.safetensors", "config.json", "README.md"} <= set(done.package.files)
    assert done.package.metadata["license"] == "cc0-1.0"
    assert (tmp_path / "space" / "app.py") in done.space and "me/genres" in (tmp_path / "space/app.py").read_text()


def test_a_space_that_is_there_stops_it_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    with pytest.raises(DestinationError, match=r"holds an app\.py already"):
        publish(built_in()["genre_model"], "me/genres", space=tmp_path)
    assert (tmp_path / "app.py").read_text() == "mine"


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no folder; give the one that `tonearm train --out` has written"):
        publish(tmp_path / "none", "me/genres", dry_run=True)
