"""What a finished run leaves is read back, also where 0.1.0 wrote it."""

from __future__ import annotations

import math
from pathlib import Path

from tests.labelled import job_of
from tests.unit.training.fit.old_snapshots import write_old
from tonearm.settings import TrainSettings
from tonearm.training.data.collection import ClipId
from tonearm.training.fit.job import Example
from tonearm.training.fit.result import read_result


def test_a_finished_run_of_0_1_0_becomes_a_model(tmp_path: Path) -> None:
    write_old(tmp_path)
    examples = (Example(ClipId(111), (0,)), Example(ClipId(222), (1,)))
    result = read_result(tmp_path, job_of(TrainSettings(), ("a", "b"), validation=examples), {})
    assert result.predictions["validation"].clips.tolist() == [111, 222], "places say nothing any more"
    assert result.figures()["validation"]["track"]["accuracy"] == 1.0
    assert (result.progress.kept_epoch, result.progress.best_loss) == (2, math.inf)
