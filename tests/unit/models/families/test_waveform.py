"""Families that take waveforms score windows from the first length that gives their convolutions an output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tonearm.models.families.waveform import SMALL, Waveform

WIDE = {"conv_kernel": [10, 3, 3, 3, 3, 2, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2, 2]}


@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["small", "wide"])
def test_the_shortest_window_gives_one_output_and_a_shorter_one_none(config: dict[str, list[int]]) -> None:
    layers = nn.Sequential(
        *(nn.Conv1d(1, 1, *sizes) for sizes in zip(config["conv_kernel"], config["conv_stride"], strict=True))
    )
    shortest = Waveform().min_samples(config)
    assert shortest > 400, "which would be the least for any family"
    assert layers(torch.zeros(1, 1, shortest)).shape[2] == 1
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        layers(torch.zeros(1, 1, shortest - 1))


def test_relatives_differ_from_the_small_model_by_what_they_say() -> None:
    plain, squeezed = Waveform().scratch_config(), Waveform(squeeze_factor=2).scratch_config()
    assert plain is not None and squeezed is not None
    assert {**plain.config, "squeeze_factor": 2} == squeezed.config
