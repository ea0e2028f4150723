"""MobileNetV3 on log-mel spectrograms, in EfficientAT's widths: a hundredth of AST's work (arXiv:2211.04772)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from tonearm.models.families.default import DefaultFamily
from tonearm.models.families.family import ScratchConfig, Values

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

# Of a frame at 32 kHz; nothing shorter can be mirrored at its ends.
FFT = 1024
FRAMES_A_SECOND = 100

SCRATCH = ScratchConfig(
    # The published networks have a momentum of 0.01: after the few hundred steps of a small collection a third of the
    # norms' means would still be what they began with.
    config={"width": 0.4, "num_mel_bins": 128, "max_length": 1000, "norm_momentum": 0.1},
    preprocessor={
        "feature_extractor_type": "MobileNetAudioFeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 32000,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
        "num_mel_bins": 128,
        "hop_length": 320,
        "win_length": 800,
        "n_fft": FFT,
        "min_frequency": 0.0,
        "max_frequency": 15000.0,
        "preemphasis": 0.97,
        "mean": -4.5,
        "std": 5.0,
        "max_length": 1000,
    },
)


class MobileNetAudio(DefaultFamily):
    """Windows of up to ``max_length`` frames, shorter ones as they are; the embedding is the mean over all of it."""

    is_convolutional = True

    def classifier(self) -> type[PreTrainedModel]:
        """Return tonearm's own."""
        network, _ = _networks()
        classifier: type[PreTrainedModel] = network.MobileNetAudioForAudioClassification
        return classifier

    def extractor(self) -> type[SequenceFeatureExtractor]:
        """Return tonearm's own."""
        _, features = _networks()
        extractor: type[SequenceFeatureExtractor] = features.MobileNetAudioFeatureExtractor
        return extractor

    def native_window_s(self, config: Values, preprocessor: Values, sample_rate: int) -> float | None:
        """Return the length of ``max_length`` frames."""
        return float(config["max_length"]) * float(preprocessor.get("hop_length", 320)) / sample_rate

    def min_samples(self, config: Values) -> int:
        """Return one frame."""
        return FFT

    def preprocessor_shape(self, config: Values) -> Mapping[str, int]:
        """Return the spectrogram's shape, and the frame that ``min_samples`` is made for."""
        return {"num_mel_bins": config["num_mel_bins"], "max_length": config["max_length"], "n_fft": FFT}

    def scratch_config(self) -> ScratchConfig:
        """Return mn04: a million parameters."""
        return SCRATCH

    def sized_for(self, window_s: float, config: Values) -> Mapping[str, int]:
        """Return the frames of 10 ms that hold ``window_s``."""
        return {"max_length": max(1, math.ceil(round(window_s * FRAMES_A_SECOND, 3)))}

    def watch_embedding(self, model: PreTrainedModel, keep: Callable[[Tensor], None]) -> None:
        """Keep the mean over time and frequency, which is what the first linear layer takes."""
        projector = model.get_submodule("projector")
        projector.register_forward_pre_hook(lambda module, inputs: keep(inputs[0]))


def _networks() -> tuple[ModuleType, ModuleType]:
    """Return the modules of the model and of its extractor, which load torch."""
    from tonearm.models.networks import mobilenet_audio, mobilenet_features

    return mobilenet_audio, mobilenet_features
