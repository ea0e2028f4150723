"""Snapshots of 0.1.0 are read as they were written then."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch

from tests.unit.training.fit.old_snapshots import write_old
from tonearm.training.fit.snapshot import Progress, read_snapshot


def test_an_unfinished_run_of_0_1_0_is_resumed(tmp_path: Path) -> None:
    write_old(tmp_path, model={"weight": torch.zeros(2)}, optimizer={}, schedule={}, scaler={})
    snapshot = read_snapshot(tmp_path)
    assert (snapshot.progress.step, snapshot.step_size) == (9, 8)
    assert set(snapshot.state) == {"model", "optimizer", "schedule", "scaler"}


def test_a_snapshot_of_0_1_0_is_resumed() -> None:
    values = dataclasses.asdict(Progress(epoch=3, best=0.5, best_epoch=2))
    del values["kept_epoch"], values["best_loss"]
    assert (Progress.of(values).kept_epoch, Progress.of(values).best_loss) == (2, math.inf)
