"""musicnn: filters as tall as timbres and as long as rhythms, on 3 s of log-mel spectrogram (arXiv:1909.06654)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from tonearm.models.families.default import DefaultFamily
from tonearm.models.families.family import ScratchConfig, Values

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

FFT, HOP, SAMPLE_RATE, FRAMES = 512, 256, 16000, 187
EXTRACTOR: Values = {
    "feature_extractor_type": "MusicnnFeatureExtractor",
    "feature_size": 1,
    "sampling_rate": SAMPLE_RATE,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "num_mel_bins": 96,
    "n_fft": FFT,
    "hop_length": HOP,
    "max_length": FRAMES,
}


class Musicnn(DefaultFamily):
    """Windows of 187 frames of 16 ms, shorter ones repeated; the embedding is the penultimate layer, 200 numbers."""

    is_convolutional = True

    def classifier(self) -> type[PreTrainedModel]:
        """Return tonearm's own."""
        return _network().MusicnnForAudioClassification

    def extractor(self) -> type[SequenceFeatureExtractor]:
        """Return tonearm's own."""
        return _network().MusicnnFeatureExtractor

    def native_window_s(self, config: Values, preprocessor: Values, sample_rate: int) -> float | None:
        """Return the length of ``max_length`` frames: 2.992 s."""
        return float(config["max_length"]) * float(preprocessor.get("hop_length", HOP)) / sample_rate

    def min_samples(self, config: Values) -> int:
        """Return one frame."""
        return FFT

    def preprocessor_shape(self, config: Values) -> Mapping[str, int]:
        """Return the spectrogram's shape, and the frame that ``min_samples`` is made for."""
        return {"num_mel_bins": config["num_mel_bins"], "max_length": config["max_length"], "n_fft": FFT}

    def scratch_config(self) -> ScratchConfig:
        """Return the network at its own size, without weights."""
        return ScratchConfig({"hidden_size": 200}, EXTRACTOR)

    def sized_for(self, window_s: float, config: Values) -> Mapping[str, int]:
        """Return the frames that are whole within ``window_s``."""
        return {"max_length": max(1, int(round(window_s * SAMPLE_RATE, 3)) // HOP)}

    def watch_embedding(self, model: PreTrainedModel, keep: Callable[[Tensor], None]) -> None:
        """Keep the last hidden layer after its batch norm."""
        model.get_submodule("embedding_norm").register_forward_hook(lambda module, inputs, output: keep(output))


def _network() -> ModuleType:
    from tonearm.models.networks import musicnn  # torch

    return musicnn
