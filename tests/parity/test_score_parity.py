"""Scores and features equal those of transformers on the same checkpoint and the same window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.checkpoints import AST, FIVE, clips, extractor_of, save_full_size, tiny_config
from tonearm.models.classifier import Classifier
from tonearm.models.families import OWN
from tonearm.models.features import OwnExtractor
from tonearm.models.pooling import sigmoid, softmax

TOLERANCE = 1e-4


def assert_equal_scores(
    folder: Path, waveform: NDArray[np.float32], *, logit_tolerance: float = 0.0, **how: Any
) -> None:
    from transformers import pipeline

    classifier = Classifier.load(str(folder), **how)
    logits = classifier.score([waveform]).logits[0]
    assert logits.std() > 0.1, "the checkpoint says the same of every label, which proves nothing"
    pipe = pipeline("audio-classification", model=str(folder), device="cpu")
    for function, apply in (("none", lambda values: values), ("softmax", softmax), ("sigmoid", sigmoid)):
        answer: Any = pipe(waveform, top_k=10_000, function_to_apply=function)
        expected = {entry["label"]: entry["score"] for entry in answer}
        assert set(expected) == set(classifier.info.labels)
        wanted = np.array([expected[label] for label in classifier.info.labels])
        relative = logit_tolerance if function == "none" else 0.0
        np.testing.assert_allclose(apply(logits), wanted, atol=TOLERANCE, rtol=relative, err_msg=function)


@pytest.mark.parametrize("family", OWN)
@pytest.mark.parametrize("length_s", [1.7, 10.24])
def test_small_checkpoint_scores_as_the_pipeline_does(
    family: str, length_s: float, checkpoints: dict[str, Path]
) -> None:
    for waveform in clips(3, num_clips=2, length_s=length_s):
        assert_equal_scores(checkpoints[family], waveform, runtime="torch", precision="fp32")


@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=[pytest.mark.slow] * family.startswith("w")) for family in FIVE]
)
def test_openvino_scores_as_the_pipeline_does(family: str, checkpoints: dict[str, Path]) -> None:
    """OpenVINO scores a window as `transformers.pipeline` does, within 1e-4."""
    (waveform,) = clips(5, num_clips=1, length_s=10.24)
    assert_equal_scores(checkpoints[family], waveform, runtime="openvino", precision="fp32", window_s=10.24)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "length_s"), [("genre", 30.0), ("tags", 10.24)])
# Sums of thousands of products in another order: a logit of 2 may be off by 2e-4, a score by a quarter of it.
@pytest.mark.parametrize(("runtime", "logit_tolerance"), [("torch", 0.0), ("openvino", 1e-4)])
def test_full_size_checkpoint_scores_as_the_pipeline_does(
    runtime: str, logit_tolerance: float, kind: str, length_s: float, shared_facts: Path, tmp_path: Path
) -> None:
    """Full-size models score a window as `transformers.pipeline` does, within 1e-4."""
    folder = save_full_size(tmp_path / kind, shared_facts, kind)
    (waveform,) = clips(7, num_clips=1, length_s=length_s)
    assert_equal_scores(folder, waveform, runtime=runtime, precision="fp32", logit_tolerance=logit_tolerance)


@pytest.mark.parametrize("family", FIVE)
def test_a_batch_scores_as_its_windows_alone(family: str, checkpoints: dict[str, Path]) -> None:
    classifier = Classifier.load(str(checkpoints[family]), batch_size=3)
    windows = [clip for length_s in (2.0, 5.0, 2.0) for clip in clips(9, num_clips=3, length_s=length_s)]
    together = classifier.score(windows)
    for index, window in enumerate(windows):
        alone = classifier.score([window])
        np.testing.assert_allclose(together.logits[index], alone.logits[0], atol=1e-4)
        np.testing.assert_allclose(together.embedding[index], alone.embedding[0], atol=1e-4)


@pytest.mark.parametrize(
    ("family", "extractor"),
    [
        ("hubert", {}),
        ("hubert", {"do_normalize": False}),
        ("wav2vec2", {"return_attention_mask": True}),
        ("whisper", {}),
        ("whisper", {"feature_size": 128}),
        ("whisper", {"chunk_length": 10}),
        (AST, {}),
        (AST, {"max_length": 512}),
        (AST, {"num_mel_bins": 64}),
        (AST, {"do_normalize": False}),
    ],
)
def test_features_equal_the_extractors(family: str, extractor: dict[str, Any]) -> None:
    own = extractor_of(family, tiny_config(family), **extractor)
    ours = OWN[family].features(own)
    assert not isinstance(ours, OwnExtractor)
    silence = np.zeros(16000, np.float32)
    for waveform in [*clips(11, num_clips=2, length_s=3.3), *clips(12, num_clips=1, length_s=12.0), silence + 1e-4]:
        expected = own(waveform, sampling_rate=16000, return_tensors="pt")
        found = ours(torch.from_numpy(waveform)[None])
        name = own.model_input_names[0]
        assert found[name].shape == expected[name].shape
        torch.testing.assert_close(found[name], expected[name].float(), atol=1e-3, rtol=0)


def test_embeddings_are_the_cls_token_and_the_mean_hidden_state(checkpoints: dict[str, Path]) -> None:
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    (waveform,) = clips(13, num_clips=1, length_s=4.0)
    for family in (AST, "hubert", "whisper"):
        folder = str(checkpoints[family])
        model: Any = AutoModelForAudioClassification.from_pretrained(folder).eval()
        extractor = AutoFeatureExtractor.from_pretrained(folder)
        with torch.inference_mode():
            inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
            if family == AST:
                hidden = model.audio_spectrogram_transformer(**inputs).last_hidden_state[:, 0]
            else:
                encoder = model.encoder if family == "whisper" else model.hubert
                hidden = encoder(**inputs).last_hidden_state.mean(dim=1)
        found = Classifier.load(folder).score([waveform]).embedding
        np.testing.assert_allclose(found, hidden.numpy(), atol=1e-4, err_msg=family)
