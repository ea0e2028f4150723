"""Torch on a processor: logits and embeddings of each batch in order, as float32 whatever it computed in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.converted import RATE, windows
from tonearm.models.checkpoint import load_model
from tonearm.models.features import build_features
from tonearm.models.torch_runtime import TorchRuntime, WithEmbedding


def test_the_embedding_is_that_of_the_same_pass(hubert: Path) -> None:
    model = load_model(str(hubert), revision=None, allow_pickle=False).model
    both, (first, second) = WithEmbedding(model), torch.from_numpy(windows(2)).split(1)
    with torch.inference_mode():
        outputs = [both(input_values=values) for values in (first, second, first)]
    assert outputs[0].logits.shape == (1, 7) and outputs[0].embedding.shape == (1, 48)
    embeddings = [output.embedding for output in outputs]
    assert torch.equal(embeddings[0], embeddings[2]) and not torch.equal(embeddings[0], embeddings[1])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batches_are_scored_in_order(hubert: Path, precision: str) -> None:
    model, extractor = load_model(str(hubert), revision=None, allow_pickle=False)
    runtime = TorchRuntime(model, build_features(extractor), precision, "cpu")
    batches = [windows(3)[:2], windows(3)[2:, : RATE // 2]]
    for batch, scores in zip(batches, runtime.run_all(batches), strict=True):
        logits, embedding = scores.logits, scores.embedding
        assert (logits.shape, embedding.shape) == ((len(batch), 7), (len(batch), 48))
        assert logits.dtype == embedding.dtype == np.float32
        np.testing.assert_array_equal(logits, runtime.run(batch).logits)
