"""A model that was added is known by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.musicnn_wheel import NUM_SAMPLES
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint, is_hub_id
from tonearm.models.musicnn import wheel
from tonearm.models.window_plan import plan_windows


def test_a_name_is_the_model_that_was_added(empty_cache: Path, made_wheel: Path, tmp_path: Path) -> None:
    assert not is_hub_id("musicnn")
    with pytest.raises(CheckpointError, match=r"^musicnn-msd is not added here: `tonearm models add musicnn-msd`"):
        describe_checkpoint("musicnn-msd")
    folder = wheel.add("musicnn-msd", made_wheel)
    info = describe_checkpoint("musicnn-msd")
    assert (info.name, info.family, len(info.labels), info.embedding_dim) == ("musicnn-msd", "musicnn", 50, 200)
    assert (
        info.labels[:2] == ("rock", "pop")
        and info.multi_label
        and info.revision == describe_checkpoint(str(folder)).revision
    )
    assert plan_windows(info, 3.0, None).window_samples == NUM_SAMPLES
    assert plan_windows(info, 1.0, None).window_samples == 16000
    assert wheel.add("musicnn-msd") == folder  # without fetching anything
