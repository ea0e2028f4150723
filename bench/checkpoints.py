"""Checkpoints with random weights: the shapes of the default models and of efficient CNNs, without a download."""

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


def save_efficient(name: str, folder: Path) -> Path:
    """Save an efficient CNN of ``tonearm.training.fit.architectures`` with AudioSet's 527 tags."""
    from tonearm.training.fit.initial import read_initial_model
    from tonearm.training.fit.initial_weights import Classifier, load_initial_model

    labels = tuple(f"label {number}" for number in range(527))
    initial = read_initial_model(name, from_scratch=True)
    model, extractor = load_initial_model(initial, Classifier(labels, is_multi=True), seed=0)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def _save(model: Any, extractor: Any, folder: Path, *, scale: float) -> Path:
    import torch

    # Random classifiers say nearly the same of everything; larger weights make a comparison of scores mean something.
    with torch.no_grad():
        getattr(model.classifier, "dense", model.classifier).weight.mul_(scale)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
