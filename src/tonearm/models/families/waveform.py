"""Wav2Vec2, HuBERT and their relatives: convolutions over the waveform, then a transformer (arXiv:2006.11477)."""

from __future__ import annotations

from tonearm.models.families.default import DefaultFamily
from tonearm.models.families.family import ScratchConfig, Values

SMALL: Values = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "classifier_proj_size": 128,
    "conv_dim": [64, 64, 96, 128, 128],
    "conv_kernel": [10, 8, 4, 4, 4],
    "conv_stride": [5, 4, 4, 4, 2],
    "num_feat_extract_layers": 5,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    # Off: this regularization is made for thousands of hours. With it a small model learns less from few clips.
    "apply_spec_augment": False,
    "layerdrop": 0.0,
}
EXTRACTOR: Values = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "do_normalize": True,
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
}


class Waveform(DefaultFamily):
    """Windows of any length from which the convolutions give an output.

    Args:
        more: values of the small configuration beyond those that all of these families share.
    """

    def __init__(self, **more: object) -> None:
        self.more = more

    def scratch_config(self) -> ScratchConfig | None:
        """Return a model of 700,000 parameters."""
        return ScratchConfig({**SMALL, **self.more}, EXTRACTOR)
