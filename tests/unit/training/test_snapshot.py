"""Snapshots of 0.1.0 are read as they were written then."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tests.labelled import job_of
from tonearm.settings import TrainSettings
from tonearm.training.data.collection import ClipId
from tonearm.training.fit.job import Example
from tonearm.training.fit.result import read_result
from tonearm.training.fit.snapshot import BEST, PREDICTIONS, STATE, Progress, read_snapshot


def write_old(folder: Path, **state: object) -> None:
    """Write what 0.1.0 wrote: no kept epoch, and clips known by their places."""
    progress = dataclasses.asdict(Progress(epoch=3, step=9, best=0.5, best_epoch=2, is_done=not state))
    del progress["kept_epoch"], progress["best_loss"]
    torch.save({"progress": progress, "step_size": 8, **state}, folder / STATE)
    save_file({"weight": torch.ones(2)}, folder / BEST)
    arrays = {"logits": np.eye(2, dtype=np.float32), "owner": np.arange(2), "start_s": np.zeros(2)}
    arrays |= {"targets": np.eye(2, dtype=np.float32), "clips": np.array([4, 7])}
    np.savez_compressed(folder / PREDICTIONS, **{f"validation.{name}": value for name, value in arrays.items()})


def test_a_finished_run_of_0_1_0_becomes_a_model(tmp_path: Path) -> None:
    write_old(tmp_path)
    examples = (Example(ClipId(111), (0,)), Example(ClipId(222), (1,)))
    result = read_result(tmp_path, job_of(TrainSettings(), ("a", "b"), validation=examples), {})
    assert result.predictions["validation"].clips.tolist() == [111, 222], "places say nothing any more"
    assert result.figures()["validation"]["track"]["accuracy"] == 1.0
    assert (result.progress.kept_epoch, result.progress.best_loss) == (2, math.inf)


def test_an_unfinished_run_of_0_1_0_is_resumed(tmp_path: Path) -> None:
    write_old(tmp_path, model={"weight": torch.zeros(2)}, optimizer={}, schedule={}, scaler={})
    snapshot = read_snapshot(tmp_path)
    assert (snapshot.progress.step, snapshot.step_size) == (9, 8)
    assert set(snapshot.state) == {"model", "optimizer", "schedule", "scaler"}
