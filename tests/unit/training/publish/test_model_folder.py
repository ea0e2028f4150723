"""The folder that training ends with: weights, figures, and a card that says what the figures can mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.labelled import loop_of, planned
from tests.unit.training.publish.cards import RUN
from tonearm.errors import DestinationError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.window_plan import plan_windows
from tonearm.settings import TrainSettings
from tonearm.training.fit import initial_weights
from tonearm.training.fit.result import Result, read_result
from tonearm.training.plan import TrainingPlan
from tonearm.training.publish.model_folder import write_model


@pytest.mark.processes
def test_the_folder_is_a_checkpoint_with_the_trained_weights(
    finished: tuple[TrainingPlan, Result], collection: Path, tmp_path: Path
) -> None:
    run, result = finished
    write_model(str(tmp_path), run, result, source=str(collection), comparisons=[])
    info = describe_checkpoint(str(tmp_path))
    assert info.labels == ("bird", "cello", "drone")
    assert not info.multi_label
    assert plan_windows(info, None, None).window_samples == 16000, "tagging takes the windows of training"
    from transformers import AutoModelForAudioClassification

    model = AutoModelForAudioClassification.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, result.weights[name], rtol=0, atol=0)


@pytest.mark.processes
def test_weights_are_loaded_once_and_not_to_be_counted_or_written(
    collection: Path, settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    real = initial_weights.load_weights

    def load_weights(folder: Path, *arguments: Any, **named: Any) -> Any:
        loaded.append(folder)
        return real(folder, *arguments, **named)

    monkeypatch.setattr(initial_weights, "load_weights", load_weights)
    run = planned(collection, settings)
    assert loaded == [] and run.num_parameters > 10_000
    loop = loop_of(run, tmp_path / "run")
    assert len(loaded) == 1 and run.num_parameters == sum(weight.numel() for weight in loop.bare.parameters())
    loop.run()
    write_model(str(tmp_path / "m"), run, read_result(tmp_path / "run", run.job, RUN), source="x", comparisons=[])
    assert len(loaded) == 1


@pytest.mark.processes
def test_a_place_that_cannot_be_written_is_one_line(
    finished: tuple[TrainingPlan, Result], collection: Path, tmp_path: Path
) -> None:
    run, result = finished
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationError, match="a file is where a folder should be"):
        write_model(str(tmp_path / "file" / "model"), run, result, source=str(collection), comparisons=[])
