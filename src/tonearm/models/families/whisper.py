"""Whisper's encoder: the log-mel spectrogram of 30 s (arXiv:2212.04356)."""

from __future__ import annotations

from collections.abc import Mapping

from tonearm.models.families.default import DefaultFamily
from tonearm.models.families.family import FRAME_SAMPLES, ScratchConfig, Values

SCRATCH = ScratchConfig(
    config={
        "d_model": 128,
        "encoder_layers": 3,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 256,
        "num_mel_bins": 80,
        # A classifier has no decoder, but transformers' config expects one, with its tokens within the vocabulary.
        "decoder_layers": 1,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 256,
        "vocab_size": 100,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 3,
        "max_source_positions": 1500,
        "classifier_proj_size": 128,
    },
    preprocessor={
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 80,
        "chunk_length": 30,
        "hop_length": 160,
        "n_fft": 400,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
        "sampling_rate": 16000,
    },
)


class Whisper(DefaultFamily):
    """Windows of 30 s, shorter ones padded with silence."""

    def native_window_s(self, config: Values, preprocessor: Values, sample_rate: int) -> float | None:
        """Return the extractor's ``chunk_length``."""
        return float(preprocessor.get("chunk_length", 30))

    def min_samples(self, config: Values) -> int:
        """Return one frame."""
        return FRAME_SAMPLES

    def preprocessor_shape(self, config: Values) -> Mapping[str, int]:
        """Return the number of mel bands."""
        return {"feature_size": config["num_mel_bins"]}

    def scratch_config(self) -> ScratchConfig | None:
        """Return an encoder of three layers."""
        return SCRATCH
