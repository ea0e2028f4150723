"""Full-size checkpoints with random weights: the shapes of the default models, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_distilhubert(folder: Path) -> Path:
    """Save DistilHuBERT (23.5 M parameters) with a ten-genre classifier."""
    import torch
    from transformers import HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    # ntu-spml/distilhubert: HuBERT base with two layers and no layer norm before the projection.
    config = HubertConfig(num_hidden_layers=2, feat_proj_layer_norm=False, num_labels=10)
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return _save(HubertForSequenceClassification(config), extractor, folder, scale=20)


def save_ast(folder: Path) -> Path:
    """Save the Audio Spectrogram Transformer (86.6 M parameters) with AudioSet's 527 tags."""
    import torch
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    torch.manual_seed(0)
    config = ASTConfig(num_labels=527, problem_type="multi_label_classification")
    # Less than the other: with more, dozens of sigmoids are one, and none of them the first.
    return _save(ASTForAudioClassification(config), ASTFeatureExtractor(), folder, scale=4)


def _save(model: Any, extractor: Any, folder: Path, *, scale: float) -> Path:
    import torch

    # Random classifiers say nearly the same of everything; larger weights make a comparison of scores mean something.
    with torch.no_grad():
        getattr(model.classifier, "dense", model.classifier).weight.mul_(scale)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
