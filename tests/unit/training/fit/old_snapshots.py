"""Snapshots as 0.1.0 wrote them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tonearm.training.fit.snapshot import BEST, PREDICTIONS, STATE, Progress


def write_old(folder: Path, **state: object) -> None:
    """Write what 0.1.0 wrote: no kept epoch, and clips known by their places."""
    progress = dataclasses.asdict(Progress(epoch=3, step=9, best=0.5, best_epoch=2, is_done=not state))
    del progress["kept_epoch"], progress["best_loss"]
    torch.save({"progress": progress, "step_size": 8, **state}, folder / STATE)
    save_file({"weight": torch.ones(2)}, folder / BEST)
    arrays = {"logits": np.eye(2, dtype=np.float32), "owner": np.arange(2), "start_s": np.zeros(2)}
    arrays |= {"targets": np.eye(2, dtype=np.float32), "clips": np.array([4, 7])}
    np.savez_compressed(folder / PREDICTIONS, **{f"validation.{name}": value for name, value in arrays.items()})
