"""Every family keeps its contract: its small configuration is a model that takes what its features make."""

from __future__ import annotations

import pytest
import torch

from tonearm.errors import CheckpointError
from tonearm.models.families import OWN, family_of
from tonearm.models.torch_runtime import WithEmbedding
from tonearm.training.fit.architectures import SHORT
from tonearm.training.fit.initial import read_initial_model
from tonearm.training.fit.initial_weights import Classifier, load_initial_model

NAMES = {model_type: short for short, model_type in SHORT.items()}


@pytest.mark.parametrize("family", OWN)
def test_every_family_has_a_small_model_to_train_from_scratch(family: str) -> None:
    name = f"small-{NAMES.get(family, family)}"
    with pytest.raises(CheckpointError, match="is an architecture without weights; add --from-scratch"):
        read_initial_model(name)
    start = read_initial_model(name, from_scratch=True)
    assert start.family == family
    model, extractor = load_initial_model(start, Classifier(["a", "b"], False), seed=0)
    assert sum(weight.numel() for weight in model.parameters()) < 2_000_000
    features = family_of(family).features(extractor)
    assert start.min_samples >= 400 and start.sample_rate == extractor.sampling_rate
    with torch.no_grad():
        logits, embedding = WithEmbedding(model.eval())(**features(torch.randn(2, start.sample_rate) * 0.1))
    assert logits.shape == (2, 2) and embedding.shape == (2, model.config.hidden_size)
    assert not torch.equal(embedding[0], embedding[1])
