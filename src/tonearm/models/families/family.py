"""What a model family is: the contract of ``families.FAMILIES`` and of what other packages add to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

# Samples of one spectrogram frame in AST's and Whisper's extractors at 16 kHz; no family scores less.
FRAME_SAMPLES = 400
Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ScratchConfig:
    """A small model to train from random weights.

    Attributes:
        config: values of ``config.json`` that are not the family's defaults.
        preprocessor: ``preprocessor_config.json``, with ``feature_extractor_type``.
    """

    config: Values
    preprocessor: Values


class Family(Protocol):
    """What tonearm has to know of the models of one ``model_type``.

    Loading: tonearm finds the files, refuses code and values that no model can have, reads the labels, makes the model
    from safetensors through transformers' auto classes, and checks that every weight is there, has its shape and is
    finite. The family gives the classes of a model and of an extractor that transformers does not have
    (``classifier``, ``extractor``). The last layer is called ``classifier``, ``config.hidden_size`` is the length of
    the embedding, and ``forward`` takes the features by name and returns something with ``logits`` [B, labels].

    Padding: tonearm cuts windows, never longer than ``native_window_s`` or shorter than ``min_samples``, and batches
    only windows of one length. What a model needs beyond that is padded by ``features``, as its own extractor does.

    Order: row n of logits and embedding belongs to window n.

    Errors: values come from a stranger's files, which have been looked at: they are there with the right types. Raise
    ``CheckpointError`` for values that do not go together; anything else is reported as the family's own fault.

    ``config`` is what transformers has made of ``config.json``, as a mapping; ``preprocessor`` is
    ``preprocessor_config.json``. Only ``classifier``, ``extractor``, ``features`` and ``watch_embedding`` may
    import torch.
    """

    @property
    def is_convolutional(self) -> bool:
        """Whether passes cost far more than the number of parameters tells, as those of convolutions do."""
        ...

    def classifier(self) -> type[PreTrainedModel] | None:
        """Return the model's class, with its ``config_class``; None where transformers has both."""
        ...

    def extractor(self) -> type[SequenceFeatureExtractor] | None:
        """Return the class that ``feature_extractor_type`` names; None where transformers has it."""
        ...

    def native_window_s(self, config: Values, preprocessor: Values, sample_rate: int) -> float | None:
        """Return the only length that a model takes, in seconds; None where it takes any."""
        ...

    def min_samples(self, config: Values) -> int:
        """Return the shortest waveform that gives one frame."""
        ...

    def preprocessor_shape(self, config: Values) -> Mapping[str, int]:
        """Return what ``preprocessor_config.json`` must say where it says it, so that both are of one model."""
        ...

    def scratch_config(self) -> ScratchConfig | None:
        """Return a small model to train from random weights as ``small-NAME``; None for none."""
        ...

    def sized_for(self, window_s: float, config: Values) -> Mapping[str, int]:
        """Return what config and preprocessor of a model made from scratch must have for windows of this length."""
        ...

    def features(self, extractor: SequenceFeatureExtractor) -> nn.Module:
        """Return what makes float32 windows [B, S] on any device the model's inputs, ``{name: tensor}``.

        Of ``tonearm.models.features``, or a module of the family's own, which keeps the model on the torch runtime.
        """
        ...

    def watch_embedding(self, model: PreTrainedModel, keep: Callable[[Tensor], None]) -> None:
        """Have each forward pass of ``model`` call ``keep`` once with its embedding [B, hidden_size]."""
        ...
