"""Random checkpoints of every family, saved as a user's fine-tuned model would be.

A fresh classifier says nearly the same of every clip, against which parity would prove nothing; so the last layer is
set from a few calibration clips: every label's logit then varies by about two from clip to clip, around zero.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.models.families import OWN
from tonearm.models.transformers_loader import register_family

AST = "audio-spectrogram-transformer"
# One of each kind; the other families are their relatives.
FIVE = ["hubert", "wav2vec2", "wavlm", "whisper", AST]
GTZAN_LABELS = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")

# What test models have of what is in the small configuration of their family: as little as shows what happens.
TINY: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "classifier_proj_size": 32,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "conv_dim": (32, 32, 32),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (5, 8, 4),
    "num_feat_extract_layers": 3,
    "squeeze_factor": 2,
    "max_position_embeddings": 64,
    "position_buckets": 16,
    "feature_projection_input_dim": 160,
    "d_model": 48,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 96,
    "vocab_size": 100,
    "max_source_positions": 1500,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "max_length": 1024,
    "width": 0.2,
}


def tiny_config(family: str, **changes: Any) -> Any:
    """Return the transformers config of a tiny model of ``family``."""
    from transformers import AutoConfig

    register_family(family)
    scratch = OWN[family].scratch_config()
    assert scratch is not None
    return AutoConfig.for_model(family, **{name: TINY[name] for name in scratch.config if name in TINY} | changes)


def extractor_of(family: str, config: Any, **overrides: Any) -> Any:
    """Return the feature extractor that checkpoints of this family come with."""
    import transformers

    scratch = OWN[family].scratch_config()
    assert scratch is not None
    values = {**scratch.preprocessor, **OWN[family].preprocessor_shape(config.to_dict()), **overrides}
    name = values.pop("feature_extractor_type")
    return (OWN[family].extractor() or getattr(transformers, name))(**values)


def save_checkpoint(folder: Path, config: Any, extractor: Any, *, seed: int = 0, **how: Any) -> Path:
    """Save a random classifier whose scores differ from label to label and from clip to clip; ``how`` to its saving."""
    import torch
    from transformers import AutoModelForAudioClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForAudioClassification.from_config(config).eval()
    _spread(model, extractor, seed)
    model.save_pretrained(folder, **how)
    extractor.save_pretrained(folder)
    return folder


def save_small(
    folder: Path,
    family: str,
    *,
    num_labels: int = 7,
    seed: int = 0,
    extractor: dict[str, Any] | None = None,
    **overrides: Any,
) -> Path:
    """Save a small random classifier of ``family``, ``overrides`` in its config and ``extractor`` in its extractor."""
    labels = {index: f"label {index}" for index in range(num_labels)}
    label2id = {name: index for index, name in labels.items()}
    config = tiny_config(family, **overrides, id2label=labels, label2id=label2id)
    return save_checkpoint(folder, config, extractor_of(family, config, **(extractor or {})), seed=seed)


def save_full_size(folder: Path, facts: Path, kind: str, *, seed: int = 0) -> Path:
    """Save DistilHuBERT (``genre``) or AST (``tags``) with their published shapes and random weights."""
    from transformers import ASTConfig, HubertConfig

    names: list[str] | tuple[str, ...]
    if kind == "genre":
        values = json.loads((facts / "distilhubert_config.json").read_text())
        names = GTZAN_LABELS
        values.pop("model_type")
        config: Any = HubertConfig(**values)
        extractor = extractor_of("hubert", config, return_attention_mask=True)
    else:
        with (facts / "audioset_527_labels.csv").open(newline="") as file:
            names = [row["display_name"] for row in csv.DictReader(file)]
        config = ASTConfig(problem_type="multi_label_classification")
        extractor = extractor_of(AST, config)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    return save_checkpoint(folder, config, extractor, seed=seed)


def clips(seed: int = 0, *, num_clips: int = 4, length_s: float = 2.0) -> list[NDArray[np.float32]]:
    """Return clips at 16 kHz that differ in pitch, noise and rhythm."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(length_s * 16000)) / 16000
    made = []
    for _ in range(num_clips):
        pitch_hz, beat_hz, noise = rng.uniform(60, 4000), rng.uniform(0.5, 8), rng.uniform(0.01, 0.3)
        tone = np.sin(2 * np.pi * pitch_hz * time_s) * (0.5 + 0.5 * np.sin(2 * np.pi * beat_hz * time_s))
        made.append((rng.uniform(0.1, 0.6) * tone + noise * rng.normal(size=time_s.size)).astype(np.float32))
    return made


def _spread(model: Any, extractor: Any, seed: int) -> None:
    """Set the last layer so that each logit has a deviation of two over a few clips, and a mean near zero."""
    import torch

    head = getattr(model.classifier, "dense", model.classifier)
    rate = extractor.sampling_rate
    # What an extractor pads to a fixed length must be calibrated near that length: padding looks like nothing else.
    length_s = 2.0 if "input_values" in extractor.model_input_names and model.config.model_type != AST else 10.0
    with torch.no_grad():
        batches = [extractor(clip, sampling_rate=rate, return_tensors="pt") for clip in clips(seed, length_s=length_s)]
        logits = torch.cat([model(**batch).logits for batch in batches])  # [clips, labels]
        # Beyond some thousands the rounding of float32 in the encoder would show in the logits.
        scale = (2.0 / logits.std(dim=0)).clamp_max(3000.0)
        offset = torch.linspace(-1.0, 1.0, logits.shape[1])
        head.weight.mul_(scale[:, None])
        head.bias.copy_((head.bias - logits.mean(dim=0)) * scale + offset)
