"""Load the initial model with torch, once in each training process; its parameters are counted without loading it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from tonearm.models.families import FAMILIES, family_of
from tonearm.models.transformers_loader import (
    LoadedModel,
    check_stored,
    load_extractor,
    load_weights,
    new_model,
    read_config,
)
from tonearm.training.fit.initial import InitialModel

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor


@dataclasses.dataclass(frozen=True)
class Classifier:
    """The classifier to make.

    Attributes:
        labels: in the order of its logits.
        window_s: length of the windows, which decides the input size of a spectrogram model made from scratch.
    """

    labels: Sequence[str]
    is_multi: bool
    window_s: float | None = None


@dataclasses.dataclass(frozen=True)
class EmptyModel:
    """A model on torch's meta device, whose weights have shapes but no memory, and its feature extractor."""

    model: PreTrainedModel
    extractor: SequenceFeatureExtractor

    @property
    def num_parameters(self) -> int:
        """Number of its parameters."""
        return sum(weight.numel() for weight in self.model.parameters())

    def with_weights(self, weights: Mapping[str, Any]) -> PreTrainedModel:
        """Return the model with these weights, by name, to be scored with."""
        model = copy.deepcopy(self.model)
        # ``assign``, since there is no memory to copy into.
        model.load_state_dict(weights, assign=True)
        return model.eval()


def load_initial_model(initial: InitialModel, head: Classifier, *, seed: int) -> LoadedModel:
    """Return the model with a classifier for the labels, and its feature extractor.

    Raises:
        CheckpointError: the weights cannot be loaded.
        PluginError: the code of a plugin's family fails, here or in any later pass.
    """
    config, extractor = _read_config_for(initial, head)
    # The new classifier's random weights must be the same on every worker, and in a resumed run.
    torch.manual_seed(seed)
    if initial.from_scratch:
        model = new_model(config, initial.name)
    else:
        # Weights in the older pickle format are read as plain tensors only, so that no code in them can run.
        has_safetensors = any(initial.folder.glob("*.safetensors"))
        model = load_weights(initial.folder, config, initial.name, use_safetensors=has_safetensors, is_new_head=True)
    _name_family_in_errors(model, initial.family)
    return LoadedModel(model, extractor)


def features_of(initial: InitialModel, extractor: SequenceFeatureExtractor) -> nn.Module:
    """Return the module that turns waveforms into the model's inputs; see ``Family.features``."""
    with FAMILIES.using(initial.family):
        features = family_of(initial.family).features(extractor)
    _name_family_in_errors(features, initial.family)
    return features


def empty_model(initial: InitialModel, head: Classifier) -> EmptyModel:
    """Return the model on torch's meta device, after checking the headers of its stored weights; none is read.

    Raises:
        CheckpointError: the weights are missing, or are those of another model.
    """
    config, extractor = _read_config_for(initial, head)
    model = new_model(config, initial.name, is_empty=True)
    if not initial.from_scratch:
        check_stored(initial.folder, config, initial.name, is_new_head=True)
    return EmptyModel(model, extractor)


class _Configured(NamedTuple):
    """A model that is not made yet, and its feature extractor, both for the labels of a training."""

    config: PreTrainedConfig
    extractor: SequenceFeatureExtractor


def _read_config_for(initial: InitialModel, head: Classifier) -> _Configured:
    folder = initial.config_folder()
    config = read_config(folder, initial.name, may_be_encoder=True)
    config.id2label = dict(enumerate(head.labels))
    config.label2id = {label: index for index, label in enumerate(head.labels)}
    config.problem_type = "multi_label_classification" if head.is_multi else "single_label_classification"
    extractor = load_extractor(folder)
    # A spectrogram model's position embeddings have a fixed number of frames, which follows from the window.
    if initial.from_scratch and head.window_s is not None:
        with FAMILIES.using(initial.family):
            sizes = family_of(initial.family).sized_for(head.window_s, config.to_dict())
        for name, value in sizes.items():
            setattr(config, name, value)
            setattr(extractor, name, value)
    return _Configured(config, extractor)


def _name_family_in_errors(module: nn.Module, family: str) -> None:
    """Make errors in the forward pass of a plugin's family name the plugin's package."""
    # Wraps the module and not a training step: in a step, the death of another worker is raised too.
    if family in FAMILIES.builtin:
        return
    forward = module.forward

    def forward_in_family(*arguments: object, **keywords: object) -> object:
        with FAMILIES.using(family):
            return forward(*arguments, **keywords)

    module.forward = forward_in_family
