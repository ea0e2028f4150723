"""The initial model in torch: loaded once in every process that trains, and never just to count its parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tonearm.models.families import FAMILIES, family_of
from tonearm.models.transformers_loader import check_stored, load_extractor, load_weights, new_model, read_config
from tonearm.training.fit.initial import InitialModel

if TYPE_CHECKING:
    from transformers import FeatureExtractionMixin, PreTrainedConfig, PreTrainedModel
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor


@dataclasses.dataclass(frozen=True)
class Classifier:
    """What the classifier of a training is made for.

    Attributes:
        labels: in the order of its logits.
        window_s: a spectrogram model made from scratch is made for windows of this length.
    """

    labels: Sequence[str]
    is_multi: bool
    window_s: float | None = None


def load_initial_model(initial: InitialModel, head: Classifier, *, seed: int) -> tuple[Any, Any]:
    """Return the model, with a classifier for the labels, and its feature extractor; the same for the same seed.

    Raises:
        CheckpointError: the weights cannot be loaded.
        PluginError: the code of a family from outside fails, here or at any later pass.
    """
    config, extractor = _configured(initial, head)
    torch.manual_seed(seed)
    if initial.from_scratch:
        model = new_model(config, initial.name)
    else:
        # Without safetensors the older format is read as plain tensors: no code of it runs.
        has_safetensors = any(initial.folder.glob("*.safetensors"))
        model = load_weights(initial.folder, config, initial.name, use_safetensors=has_safetensors, is_new_head=True)
    _blame(model, initial.family)
    return model, extractor


def features_of(initial: InitialModel, extractor: SequenceFeatureExtractor) -> nn.Module:
    """Return what makes waveforms the model's inputs; see ``Family.features``."""
    with FAMILIES.using(initial.family):
        features = family_of(initial.family).features(extractor)
    _blame(features, initial.family)
    return features


def empty_model(initial: InitialModel, head: Classifier) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """Return the same model without its weights, which have shapes and no memory, and its feature extractor."""
    config, extractor = _configured(initial, head)
    return new_model(config, initial.name, is_empty=True), extractor


def count_parameters(initial: InitialModel, head: Classifier) -> int:
    """Return how many parameters the model has, having judged the headers of its stored weights; none is read.

    Raises:
        CheckpointError: the weights are missing, or are of another model.
    """
    model, _ = empty_model(initial, head)
    if not initial.from_scratch:
        check_stored(initial.folder, model.config, initial.name, is_new_head=True)
    return sum(weight.numel() for weight in model.parameters())


def _configured(initial: InitialModel, head: Classifier) -> tuple[PreTrainedConfig, FeatureExtractionMixin]:
    folder = initial.config_folder()
    config = read_config(folder, initial.name, may_be_encoder=True)
    config.id2label = dict(enumerate(head.labels))
    config.label2id = {label: index for index, label in enumerate(head.labels)}
    config.problem_type = "multi_label_classification" if head.is_multi else "single_label_classification"
    extractor = load_extractor(folder)
    if initial.from_scratch and head.window_s is not None:
        with FAMILIES.using(initial.family):
            sizes = family_of(initial.family).sized_for(head.window_s, config.to_dict())
        for name, value in sizes.items():
            setattr(config, name, value)
            setattr(extractor, name, value)
    return config, extractor


def _blame(module: nn.Module, family: str) -> None:
    """Make errors in a forward pass of a family from another package name that package."""
    # Inside the module and not around a step, where the package would be blamed for other workers' deaths too.
    if family in FAMILIES.own:
        return
    forward = module.forward

    def blamed(*arguments: object, **named: object) -> object:
        with FAMILIES.using(family):
            return forward(*arguments, **named)

    module.forward = blamed
