"""Published checkpoints of EfficientAT (github.com/fschmid56/EfficientAT) as model folders: ``tonearm models convert``.

A file ``mnNN_as.pt`` holds the tensors of a network by name and nothing else: no labels, and nothing about the
spectrograms that it was trained on. Dynamic networks (``dymn``) and heads other than ``mlp`` are not supported.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers.utils import logging as chatter

from tonearm.errors import CheckpointError, DestinationError
from tonearm.models.checkpoint import load_model
from tonearm.models.config_files import CONFIG, LIBRARY_ERRORS
from tonearm.models.families.mobilenet_audio import SCRATCH
from tonearm.models.networks import mobilenet_audio as network
from tonearm.models.networks.mobilenet_audio import MobileNetAudioForAudioClassification
from tonearm.models.networks.mobilenet_features import MobileNetAudioFeatureExtractor
from tonearm.models.transformers_loader import register_family
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.wording import counted

HIDDEN, LAST = "classifier.2.weight", "classifier.5.weight"
# By the name of a module here, its place in a published block.
PLACES = {"conv": "0", "norm": "1", "down": "conc_se_layers.0.fc1", "up": "conc_se_layers.0.fc2"}
PARTS = ("expand", "depthwise", "squeeze", "project")
# Old versions of torch did not save it, and a trained network does not need it.
COUNTER = ".num_batches_tracked"


def convert(
    path: Path,
    out: str,
    labels: Sequence[str],
    *,
    hop_length: int = 320,
    num_mel_bins: int = 128,
    is_multi: bool = True,
) -> int:
    """Write the model folder of a published checkpoint to ``out``, a folder or a store's prefix; return its parameters.

    Args:
        labels: in the order of its outputs.
        hop_length, num_mel_bins: of the spectrogram it was trained on, which the file does not tell.
        is_multi: whether labels are independent of each other, as AudioSet's are.

    Raises:
        CheckpointError: the file is something else, or the labels are not its own.
        DestinationError: ``out`` holds something, or cannot be written.
    """
    chatter.disable_progress_bar()
    stored = read_tensors(path)
    model = _model_of(stored, path, labels, num_mel_bins=num_mel_bins, hop_length=hop_length, is_multi=is_multi)
    if filesystems.list_files(out):
        raise DestinationError(f"{shown(out)} holds files already; give another --out")
    with tempfile.TemporaryDirectory(prefix="tonearm-model-") as name:
        folder = Path(name)
        model.save_pretrained(folder)
        _extractor(model, hop_length=hop_length).save_pretrained(folder)
        # Refuses what no head could load, before anything is written to ``out``.
        load_model(name, revision=None, allow_pickle=False)
        filesystems.copy_files(folder, out, last=CONFIG)
    return sum(weight.numel() for weight in model.parameters())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that ``torch.save`` wrote; no code of it runs.

    Raises:
        CheckpointError: it holds something else.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (*LIBRARY_ERRORS, EOFError, pickle.UnpicklingError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not tensors alone"
        raise CheckpointError(
            f"{path} cannot be read ({reason}); expected a .pt file of tensors by name, as EfficientAT publishes"
        ) from None
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise CheckpointError(
            f"{path} holds a {type(stored).__name__} of other things, expected tensors by name, as EfficientAT "
            "publishes"
        )
    return {str(name): value for name, value in stored.items()}


def published_names(model: MobileNetAudioForAudioClassification) -> dict[str, str]:
    """Return the published name of each tensor of a model, by its name here."""
    prefixes = {"stem": "features.0", "head": f"features.{len(model.blocks) + 1}"}
    prefixes |= {"projector": "classifier.2", "classifier": "classifier.5"}
    for number, block in enumerate(model.blocks):
        there = [part for part in PARTS if getattr(block, part) is not None]
        prefixes |= {f"blocks.{number}.{part}": f"features.{number + 1}.block.{n}" for n, part in enumerate(there)}
    names = {}
    for name in model.state_dict():
        prefix = next(prefix for prefix in prefixes if name.startswith(f"{prefix}."))
        inner = name.removeprefix(f"{prefix}.").split(".")
        names[name] = ".".join([prefixes[prefix], *(PLACES.get(part, part) for part in inner)])
    return names


def _model_of(
    stored: Mapping[str, Tensor],
    path: Path,
    labels: Sequence[str],
    *,
    num_mel_bins: int,
    hop_length: int,
    is_multi: bool,
) -> MobileNetAudioForAudioClassification:
    if absent := [name for name in (HIDDEN, LAST) if name not in stored or stored[name].ndim != 2]:
        raise CheckpointError(
            f"{path} has no {absent[0]}; expected a checkpoint of EfficientAT's mn networks whose head is two linear "
            "layers, such as mn04_as or mn10_as"
        )
    # The file does not tell the width; the layer before the last has 1280 channels at width 1.
    width = round(stored[HIDDEN].shape[0] / network.LAST_CHANNELS, 2)
    if not 0 < width <= network.WIDEST:
        raise CheckpointError(f"{path}: {HIDDEN} has the shape {list(stored[HIDDEN].shape)}, which is of no width")
    num_outputs = stored[LAST].shape[0]
    if len(labels) != num_outputs or len(set(labels)) != num_outputs:
        raise CheckpointError(
            f"got {counted(len(set(labels)), 'distinct label')} for the {num_outputs} outputs of {path}, expected one "
            "for each; give its own --labels"
        )
    register_family(network.MODEL_TYPE)
    config = network.MobileNetAudioConfig(
        width=width,
        num_mel_bins=num_mel_bins,
        # The frames of ten seconds, whatever the hop.
        max_length=round(SCRATCH.config["max_length"] * SCRATCH.preprocessor["hop_length"] / hop_length),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        problem_type="multi_label_classification" if is_multi else "single_label_classification",
    )
    model = network.MobileNetAudioForAudioClassification(config)
    names, weights = published_names(model), model.state_dict()
    for name, published in names.items():
        expected = list(weights[name].shape)
        if published not in stored and not name.endswith(COUNTER):
            raise CheckpointError(f"{path} has no {published}, expected one of the shape {expected}: another network")
        if published in stored and list(stored[published].shape) != expected:
            raise CheckpointError(
                f"{path}: {published} has the shape {list(stored[published].shape)}, expected {expected} at width "
                f"{config.width:g}"
            )
    if strange := sorted(stored.keys() - set(names.values())):
        raise CheckpointError(f"{path} has {strange[0]}, which is of another network than EfficientAT's mn")
    model.load_state_dict({name: stored.get(published, weights[name]) for name, published in names.items()})
    return model.eval()


def _extractor(model: MobileNetAudioForAudioClassification, *, hop_length: int) -> MobileNetAudioFeatureExtractor:
    values = dict(SCRATCH.preprocessor) | {"hop_length": hop_length}
    del values["feature_extractor_type"]
    values |= {"num_mel_bins": model.config.num_mel_bins, "max_length": model.config.max_length}
    return MobileNetAudioFeatureExtractor(**values)
