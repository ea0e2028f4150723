"""Settings of a training come from its flags, from --set and from a file, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.api import flags
from tonearm.errors import SettingsError
from tonearm.settings import TrainSettings, build


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("epochs=3", {"epochs": 3}),
        ("augment.mixup=0.3", {"augment": {"mixup": 0.3}}),
        ("labels.test_on=['4','5']", {"labels": {"test_on": ["4", "5"]}}),
        ("model=small-ast", {"model": "small-ast"}),
        ("from_scratch=true", {"from_scratch": True}),
    ],
)
def test_any_setting_can_be_given_on_the_command_line(assignment: str, read: dict[str, object]) -> None:
    assert flags.train_settings({"set": [assignment]}) == build(TrainSettings, read)


def test_flags_go_before_the_file_and_set_before_flags(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("max_windows = 5\n[train]\nepochs = 3\nbatch_size = 2\nseed = 1\n")
    found = flags.train_settings({"batch_size": 4, "seed": 2, "config": path, "set": ["seed=3"]})
    assert (found.epochs, found.batch_size, found.seed) == (3, 4, 3)
    assert flags.tag_settings({"config": path}).max_windows == 5
    with pytest.raises(SettingsError, match="expected name=value"):
        flags.train_settings({"set": ["mixup"]})


def test_the_recipes_are_settings() -> None:
    recipes = sorted(Path(__file__).parents[3].glob("recipes/*.toml"))
    assert len(recipes) == 6
    for path in recipes:
        assert flags.train_settings({"config": path}).from_scratch
