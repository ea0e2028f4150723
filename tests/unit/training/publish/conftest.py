"""One small finished training for all tests of what is published; read only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labelled import loop_of, planned, train_settings
from tests.unit.training.publish.cards import RUN
from tonearm.settings import TrainSettings
from tonearm.training.fit.result import Result, read_result
from tonearm.training.plan import TrainingPlan


@pytest.fixture(scope="session")
def settings(start: Path, cache: Path) -> TrainSettings:
    return train_settings(start, cache, epochs=1, labels={"validation_share": 0.2, "source_by": "folder"})


@pytest.fixture(scope="session")
def finished(
    collection: Path, settings: TrainSettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingPlan, Result]:
    folder = tmp_path_factory.mktemp("run")
    run = planned(collection, settings)
    loop_of(run, folder).run()
    return run, read_result(folder, run.job, RUN)
