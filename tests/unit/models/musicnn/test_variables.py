"""The published variables become weights by the network's names, in torch's order of axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.musicnn_wheel import LAYERS, NORMS, small_variables, write_checkpoint
from tonearm.errors import CheckpointError
from tonearm.models.families.musicnn import EXTRACTOR
from tonearm.models.musicnn.variables import PUBLISHED, config_of, read_weights
from tonearm.models.networks.musicnn import MusicnnConfig, MusicnnForAudioClassification


def tiny_variables() -> dict[str, NDArray[np.float32]]:
    """Return variables of the published names and axes, at most four numbers along each."""
    rng = np.random.default_rng(0)
    shapes = {f"{name}/kernel": tuple(min(size, 4) for size in shape) for name, shape in LAYERS.items()}
    shapes |= {f"{name}/bias": (min(shape[-1], 4),) for name, shape in LAYERS.items()}
    for place, size in enumerate(NORMS):
        name = f"batch_normalization_{place}" if place else "batch_normalization"
        shapes |= {f"{name}/{part}": (min(size, 4),) for part in ("gamma", "beta", "moving_mean", "moving_variance")}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def read(folder: Path, variables: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    write_checkpoint(folder / "model", variables)
    index, data = (folder / f"model.{end}" for end in ("index", "data-00000-of-00001"))
    return read_weights(index.read_bytes(), data.read_bytes())


def test_every_weight_of_the_network_is_there_and_nothing_else(tmp_path: Path) -> None:
    stored = tiny_variables()
    weights = read(tmp_path, stored | {"dense/kernel/Adam": stored["dense/kernel"]})
    config = MusicnnConfig(timbral_channels=2, temporal_channels=2, midend_channels=2, hidden_size=2, num_labels=2)
    network = MusicnnForAudioClassification(config).state_dict()
    assert set(weights) == {name for name in network if not name.endswith("num_batches_tracked")}
    assert {name: values.ndim for name, values in weights.items()} == {name: network[name].ndim for name in weights}


def test_axes_are_in_torchs_order(tmp_path: Path) -> None:
    stored = tiny_variables()
    weights = read(tmp_path, stored)
    for place in np.ndindex(stored["conv2d/kernel"].shape):  # frames, bands, channel, filter
        frame, band, channel, number = place
        assert weights["timbral.0.conv.weight"][number, channel, frame, band] == stored["conv2d/kernel"][place]
    for place in np.ndindex(stored["conv2d_5/kernel"].shape):  # frames, channels, 1, filter
        frame, channel, _, number = place
        assert weights["midend.0.conv.weight"][number, channel, frame] == stored["conv2d_5/kernel"][place]
    np.testing.assert_array_equal(weights["projector.weight"], stored["dense/kernel"].T)


def test_the_config_has_the_sizes_of_the_weights(tmp_path: Path) -> None:
    config = config_of(PUBLISHED[0], read(tmp_path, tiny_variables()))
    assert (config["timbral_channels"], config["hidden_size"], len(config["id2label"])) == (4, 4, 50)
    assert config["label2id"][config["id2label"]["0"]] == 0
    assert EXTRACTOR["max_length"] == config["max_length"] == 187


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no variable"):
        read(tmp_path, small_variables())
    flat = tiny_variables() | {"conv2d/kernel": np.zeros((4, 4), np.float32)}
    with pytest.raises(CheckpointError, match="other shapes than those of the published musicnn"):
        read(tmp_path, flat)
