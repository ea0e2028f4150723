"""Wav2Vec2-BERT: a Conformer over pairs of mel frames (arXiv:2312.05187)."""

from __future__ import annotations

from tonearm.models.families.default import DefaultFamily
from tonearm.models.families.family import FRAME_SAMPLES, ScratchConfig, Values

SCRATCH = ScratchConfig(
    config={
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "classifier_proj_size": 128,
        "feature_projection_input_dim": 160,
        "apply_spec_augment": False,
        "layerdrop": 0.0,
    },
    preprocessor={
        "feature_extractor_type": "SeamlessM4TFeatureExtractor",
        "feature_size": 80,
        "num_mel_bins": 80,
        "padding_side": "right",
        "padding_value": 0.0,
        "sampling_rate": 16000,
        "stride": 2,
    },
)


class Wav2Vec2Bert(DefaultFamily):
    """Windows of any length; the checkpoint's own extractor computes the features, on the processor."""

    def min_samples(self, config: Values) -> int:
        """Return one frame."""
        return FRAME_SAMPLES

    def scratch_config(self) -> ScratchConfig | None:
        """Return a model of three layers."""
        return SCRATCH
