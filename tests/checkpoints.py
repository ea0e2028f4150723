"""Random checkpoints of every family, saved as a user's fine-tuned model would be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONVS = {"conv_dim": (32, 32, 32), "conv_kernel": (10, 8, 4), "conv_stride": (5, 8, 4), "num_feat_extract_layers": 3}
SPEECH: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "classifier_proj_size": 32,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    **CONVS,
}
WHISPER = {
    "d_model": 48, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96, "num_mel_bins": 80,
    "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 96, "vocab_size": 100, "max_source_positions": 1500,
    "classifier_proj_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3,
}
AST = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "max_length": 1024}
SMALL: dict[str, dict[str, Any]] = {
    "hubert": SPEECH,
    "wav2vec2": SPEECH,
    "wavlm": SPEECH,
    "data2vec-audio": SPEECH,
    "unispeech": SPEECH,
    "unispeech-sat": SPEECH,
    "wav2vec2-conformer": SPEECH,
    "sew": {**SPEECH, "squeeze_factor": 2},
    "sew-d": {**SPEECH, "squeeze_factor": 2, "max_position_embeddings": 64, "position_buckets": 16},
    "wav2vec2-bert": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
                      "classifier_proj_size": 32, "feature_projection_input_dim": 160},
    "whisper": WHISPER,
    "audio-spectrogram-transformer": AST,
}


def extractor_of(family: str, config: Any, **overrides: Any) -> Any:
    """Return the feature extractor that checkpoints of this family come with."""
    import transformers

    if family == "audio-spectrogram-transformer":
        return transformers.ASTFeatureExtractor(max_length=config.max_length, num_mel_bins=config.num_mel_bins, **overrides)
    if family == "whisper":
        return transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins, **overrides)
    if family == "wav2vec2-bert":
        return transformers.SeamlessM4TFeatureExtractor(**overrides)
    return transformers.Wav2Vec2FeatureExtractor(**{"do_normalize": True, "return_attention_mask": False, **overrides})


def save_checkpoint(folder: Path, config: Any, extractor: Any, *, seed: int = 0, gain: float = 6.0) -> Path:
    """Save a random classifier whose scores differ from class to class and from clip to clip."""
    import torch
    from transformers import AutoModelForAudioClassification

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForAudioClassification.from_config(config).eval()
        # A fresh classifier says nearly the same of everything, against which parity would prove nothing.
        head = model.classifier.dense if hasattr(model.classifier, "dense") else model.classifier
        head.weight.data.normal_(0, gain / head.in_features**0.5)
        if hasattr(model, "projector"):
            model.projector.weight.data.normal_(0, gain / model.projector.in_features**0.5)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def save_small(folder: Path, family: str, *, num_labels: int = 7, seed: int = 0, extractor: dict[str, Any] | None = None,
               **overrides: Any) -> Path:
    """Save a small random classifier of ``family``."""
    from transformers import AutoConfig

    labels = {index: f"label {index}" for index in range(num_labels)}
    config = AutoConfig.for_model(
        family, **{**SMALL[family], **overrides}, id2label=labels, label2id={name: index for index, name in labels.items()}
    )
    return save_checkpoint(folder, config, extractor_of(family, config, **(extractor or {})), seed=seed)


def save_full_size(folder: Path, facts: Path, kind: str, *, seed: int = 0) -> Path:
    """Save DistilHuBERT (``genre``) or AST (``tags``) with their published shapes and random weights."""
    import csv

    from transformers import ASTConfig, HubertConfig

    if kind == "genre":
        values = json.loads((facts / "distilhubert_config.json").read_text())
        names = "blues classical country disco hiphop jazz metal pop reggae rock".split()
        values.pop("model_type")
        config: Any = HubertConfig(**values)
        extractor = extractor_of("hubert", config, return_attention_mask=True)
    else:
        with open(facts / "audioset_527_labels.csv", newline="") as file:
            names = [row["display_name"] for row in csv.DictReader(file)]
        config = ASTConfig(problem_type="multi_label_classification")
        extractor = extractor_of("audio-spectrogram-transformer", config)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    return save_checkpoint(folder, config, extractor, seed=seed)
