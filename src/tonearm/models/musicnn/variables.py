"""The published checkpoints' variables as weights of ``tonearm.models.networks.musicnn``, with their configs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import CheckpointError
from tonearm.models.families.musicnn import EXTRACTOR
from tonearm.models.musicnn.tensorflow_checkpoint import read_variables

Weights = dict[str, NDArray[np.float32]]
# In the order in which the published code creates them: TensorFlow numbers variables in that order.
CONVOLUTIONS = (
    *("timbral.0", "timbral.1", "temporal.0", "temporal.1", "temporal.2"),
    *("midend.0", "midend.1", "midend.2"),
)
NORMS = ("input_norm", *(f"{name}.norm" for name in CONVOLUTIONS), "pool_norm", "embedding_norm")
LINEARS = ("projector", "classifier")
NORM_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class Published(NamedTuple):
    """One of the package's models.

    Attributes:
        name: what ``tonearm models add`` calls it.
        folder: in the wheel.
        trained_on: the data set of its labels and of its published measures.
    """

    name: str
    folder: str
    trained_on: str
    labels: tuple[str, ...]


MTT_LABELS = (
    *("guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient"),
    *("beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals"),
    *("harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo"),
    *("man", "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello"),
    *("no voice", "weird", "country", "metal", "female voice", "choral"),
)
MSD_LABELS = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock"),
    *("jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow"),
    *("electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient"),
    *("acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening"),
    *("sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad"),
    *("House", "happy"),
)
PUBLISHED = (
    Published("musicnn", "MTT_musicnn", "MagnaTagATune", MTT_LABELS),
    Published("musicnn-msd", "MSD_musicnn", "the Million Song Dataset", MSD_LABELS),
)


def read_weights(index: bytes, data: bytes) -> Weights:
    """Return the weights by the names that the network has for them; the optimizer's moments are left behind.

    Args:
        index, data: the checkpoint's two files.

    Raises:
        CheckpointError: a checkpoint that is damaged, or of another network.
    """
    names = dict(_names())
    variables = read_variables(index, data, names)
    if variables["conv2d/kernel"].ndim != 4 or variables["dense/kernel"].ndim != 2:
        raise CheckpointError("the checkpoint's variables have other shapes than those of the published musicnn")
    return {names[name]: _arranged(name, values) for name, values in variables.items()}


def config_of(model: Published, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Return ``config.json`` of a model with these weights; its ``preprocessor_config.json`` is ``EXTRACTOR``."""
    return {
        "architectures": ["MusicnnForAudioClassification"],
        "model_type": "musicnn",
        "problem_type": "multi_label_classification",
        "id2label": {str(number): label for number, label in enumerate(model.labels)},
        "label2id": {label: number for number, label in enumerate(model.labels)},
        "num_mel_bins": EXTRACTOR["num_mel_bins"],
        "max_length": EXTRACTOR["max_length"],
        "timbral_channels": len(weights["timbral.0.conv.bias"]),
        "temporal_channels": len(weights["temporal.0.conv.bias"]),
        "midend_channels": len(weights["midend.0.conv.bias"]),
        "hidden_size": len(weights["projector.bias"]),
    }


def _names() -> Iterator[tuple[str, str]]:
    """Yield TensorFlow's name of each variable, and the network's of the weight."""
    for place, name in enumerate(CONVOLUTIONS):
        yield f"{_numbered('conv2d', place)}/kernel", f"{name}.conv.weight"
        yield f"{_numbered('conv2d', place)}/bias", f"{name}.conv.bias"
    for place, name in enumerate(LINEARS):
        yield f"{_numbered('dense', place)}/kernel", f"{name}.weight"
        yield f"{_numbered('dense', place)}/bias", f"{name}.bias"
    for place, name in enumerate(NORMS):
        for part, weight in NORM_PARTS.items():
            yield f"{_numbered('batch_normalization', place)}/{part}", f"{name}.{weight}"


def _numbered(name: str, place: int) -> str:
    return f"{name}_{place}" if place else name


def _arranged(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a variable as torch has it: output channels first, then input channels."""
    if not name.endswith("/kernel"):
        return values
    if values.ndim == 2:
        return np.ascontiguousarray(values.T)
    channels_first = values.transpose(3, 2, 0, 1)
    # The mid-end's filters span all channels, [frames, channels, 1, filters]: they convolve over time alone, as torch's
    # Conv1d does.
    is_midend = name.removesuffix("/kernel") in {f"conv2d_{place}" for place in (5, 6, 7)}
    return np.ascontiguousarray(channels_first[:, 0].transpose(0, 2, 1) if is_midend else channels_first)
