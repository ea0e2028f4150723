"""The Audio Spectrogram Transformer: a spectrogram of one size, cut into patches (arXiv:2104.01778)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tonearm.models.families.default import DefaultFamily
from tonearm.models.families.family import FRAME_SAMPLES, ScratchConfig, Values

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

SCRATCH = ScratchConfig(
    config={
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "num_mel_bins": 64,
        "max_length": 1024,
        "patch_size": 16,
        "frequency_stride": 16,
        "time_stride": 16,
    },
    preprocessor={
        "feature_extractor_type": "ASTFeatureExtractor",
        "do_normalize": True,
        "feature_size": 1,
        "max_length": 1024,
        "mean": -4.2677393,
        "num_mel_bins": 64,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
        "sampling_rate": 16000,
        "std": 4.5689974,
    },
)


class Ast(DefaultFamily):
    """Windows of ``max_length`` frames of 10 ms; the embedding is [CLS]."""

    def native_window_s(self, config: Values, preprocessor: Values, sample_rate: int) -> float | None:
        """Return the length of the spectrogram."""
        # The last two frames are padding, in the reference too: a frame is 25 ms long.
        return float(preprocessor.get("max_length", config["max_length"])) * 160 / sample_rate

    def min_samples(self, config: Values) -> int:
        """Return one frame."""
        return FRAME_SAMPLES

    def preprocessor_shape(self, config: Values) -> Mapping[str, int]:
        """Return the spectrogram's shape."""
        return {"num_mel_bins": config["num_mel_bins"], "max_length": config["max_length"]}

    def scratch_config(self) -> ScratchConfig | None:
        """Return a model of 600,000 parameters."""
        return SCRATCH

    def sized_for(self, window_s: float, config: Values) -> Mapping[str, int]:
        """Return the frames of 10 ms that hold ``window_s``, a whole number of patches."""
        steps = math.ceil((window_s * 100 - config["patch_size"]) / config["time_stride"])
        return {"max_length": max(0, steps) * int(config["time_stride"]) + int(config["patch_size"])}

    def watch_embedding(self, model: PreTrainedModel, keep: Callable[[Tensor], None]) -> None:
        """Keep [CLS] after the last layer norm."""
        norm = model.get_submodule("audio_spectrogram_transformer.layernorm")
        norm.register_forward_hook(lambda module, inputs, output: keep(output[:, 0]))
