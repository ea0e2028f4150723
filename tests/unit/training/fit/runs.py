"""Whole runs of the loop in this process, and the weights that they leave."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from tonearm.training.fit.loop import Loop
from tonearm.training.fit.process_group import SingleProcess
from tonearm.training.fit.snapshot import BEST
from tonearm.training.plan import TrainingPlan


def run_in(run: TrainingPlan, group: SingleProcess) -> Loop:
    loop = Loop(run.job, run.job.open_clips(2), group)
    loop.run()
    return loop


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / BEST)
