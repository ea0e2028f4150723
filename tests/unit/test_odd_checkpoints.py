"""Checkpoints whose JSON files ask for code, or that describe what no model can be: refused in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import AST, save_small
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint, load_model
from tonearm.training.fit.initial import read_initial_model

EVIL = "evil/kernel"
GONE = object()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {family: save_small(folder / family, family) for family in ("hubert", AST, "whisper")}


@pytest.fixture
def broken(models: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return Path(shutil.copytree(models[getattr(request, "param", "hubert")], tmp_path / "broken"))


def edit(path: Path, values: Any) -> None:
    if isinstance(values, dict):
        values = {**json.loads(path.read_text()), **values}
        values = {name: value for name, value in values.items() if value is not GONE}
    path.write_text(values if isinstance(values, str) else json.dumps(values))


def assert_refused(folder: Path, message: str, *uses: Callable[[Path], object]) -> None:
    """Assert that each use refuses the folder in one line that names it."""
    for use in uses or (describe, load):
        with pytest.raises(CheckpointError, match=message) as caught:
            use(folder)
        assert "\n" not in caught.value.message and folder.name in caught.value.message


def describe(folder: Path) -> object:
    return describe_checkpoint(str(folder))


def load(folder: Path) -> object:
    return load_model(str(folder), revision=None, allow_pickle=False)


def train(folder: Path) -> object:
    return read_initial_model(str(folder))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("[1]", "expected a JSON object"),
        ("null", "expected a JSON object"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ({"sampling_rate": 0}, "sampling_rate is 0, expected a whole number of Hz"),
        ({"sampling_rate": -16000}, "sampling_rate is -16000"),
        ({"sampling_rate": 10**12}, "sampling_rate is 1000000000000"),
        ({"sampling_rate": "16000"}, 'sampling_rate is "16000"'),
        ({"sampling_rate": True}, "sampling_rate is true"),
        ({"sampling_rate": None}, "sampling_rate is null"),
        ({"feature_size": [1]}, r"feature_size is \[1\], expected a whole number"),
        ({"hop_length": 0}, "hop_length is 0"),
        ({"chunk_length": -3}, "chunk_length is -3"),
        ({"do_normalize": "yes"}, 'do_normalize is "yes", expected true or false'),
        ({"mean": float("nan")}, "mean is NaN, expected a number"),
        ({"std": 0}, "std is 0"),
        ({"auto_map": {"AutoFeatureExtractor": "evil.Extractor"}}, "names code of its own"),
    ],
)
def test_an_odd_preprocessor(broken: Path, values: Any, message: str) -> None:
    edit(broken / "preprocessor_config.json", values)
    assert_refused(broken, message, describe, load, train)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("[]", "expected a JSON object"),
        ("{", "is not JSON"),
        ({"model_type": "no-such-model"}, "cannot be used"),
        ({"model_type": ["hubert"]}, "cannot be used"),
        ({"model_type": GONE}, "cannot be used"),
        ({"auto_map": {"AutoModelForAudioClassification": "evil.Model"}}, "names code of its own"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "weights are quantized"),
        ({"_attn_implementation": EVIL}, '_attn_implementation is "evil/kernel", expected eager or sdpa'),
        ({"attn_implementation": EVIL}, 'attn_implementation is "evil/kernel"'),
        ({"_attn_implementation_internal": "paged|evil/kernel:f"}, "expected eager or sdpa"),
        ({"attn_implementation": {"": EVIL}}, "expected eager or sdpa"),
        ({"text_config": {"layers": [{"_attn_implementation": EVIL}]}}, "expected eager or sdpa"),
        ({"_experts_implementation": EVIL}, "expected eager or sdpa"),
        ({"hidden_size": "48"}, 'hidden_size is "48", expected a whole number'),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"conv_stride": [5, 0, 4]}, r"conv_stride is \[5, 0, 4\]"),
        ({"conv_kernel": [10, 8]}, "expected one of each for every convolution"),
        ({"conv_kernel": 10}, "conv_kernel is 10, expected a list"),
        ({"id2label": ["a", "b"]}, "id2label is .*, expected an object"),
        ({"id2label": {"zero": "a"}}, 'id2label has "zero": "a", expected a number and its label'),
        ({"id2label": {"0": ["a"]}}, "expected a number and its label"),
    ],
)
def test_an_odd_config(broken: Path, values: Any, message: str) -> None:
    edit(broken / "config.json", values)
    assert_refused(broken, message, describe, load, train)


@pytest.mark.parametrize(
    ("broken", "file", "values", "message"),
    [
        (AST, "preprocessor_config.json", {"num_mel_bins": 0}, "num_mel_bins is 0"),
        (AST, "preprocessor_config.json", {"num_mel_bins": 64}, "num_mel_bins 64, expected 128"),
        (AST, "preprocessor_config.json", {"max_length": 0}, "max_length is 0"),
        (AST, "preprocessor_config.json", {"max_length": 512}, "max_length 512, expected 1024"),
        (AST, "config.json", {"frequency_stride": 0}, "frequency_stride is 0"),
        ("whisper", "preprocessor_config.json", {"feature_size": 128}, "feature_size 128, expected 80"),
        ("whisper", "config.json", {"num_mel_bins": 0}, "num_mel_bins is 0"),
    ],
    indirect=["broken"],
)
def test_odd_spectrograms(broken: Path, file: str, values: Any, message: str) -> None:
    edit(broken / file, values)
    assert_refused(broken, message)


@pytest.mark.parametrize("values", [{"hidden_size": 64}, {"hidden_size": 999_996}, {"num_attention_heads": 5}])
def test_weights_that_do_not_fit_are_never_made(broken: Path, values: dict[str, int]) -> None:
    edit(broken / "config.json", values)
    assert_refused(broken, "has the shape|cannot be used", load)


def test_labels_that_are_missing(broken: Path) -> None:
    edit(broken / "config.json", {"id2label": GONE, "label2id": GONE, "num_labels": GONE})
    assert_refused(broken, "the config belongs to other weights")


def test_an_adapter_is_no_model(broken: Path) -> None:
    (broken / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": EVIL}))
    assert_refused(broken, "is an adapter for another model")


def test_no_other_file_decides_how_audio_is_prepared(broken: Path) -> None:
    other = {"feature_extractor": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 8000}}
    (broken / "processor_config.json").write_text(json.dumps(other))
    _, extractor, _ = load_model(str(broken), revision=None, allow_pickle=False)
    assert extractor.sampling_rate == 16000


def test_kernels_are_never_fetched(broken: Path) -> None:
    edit(broken / "config.json", {"_attn_implementation": "eager"})
    model, _, _ = load_model(str(broken), revision=None, allow_pickle=False)
    assert os.environ["USE_HUB_KERNELS"] == "0"
    with torch.inference_mode():
        assert model(torch.zeros(1, 16000)).logits.shape == (1, 7)


@pytest.mark.parametrize(
    "values",
    [
        "[]",
        {"window_s": 0},
        {"window_s": True},
        {"window_s": float("inf")},
        {"calibration": {"temperature": float("nan"), "thresholds": {}, "precision": 0.9}},
        {"calibration": {"temperature": 1, "thresholds": {"a": float("inf")}, "precision": 0.9}},
    ],
)
def test_an_odd_companion(broken: Path, values: Any) -> None:
    (broken / "tonearm.json").write_text(values if isinstance(values, str) else json.dumps(values))
    assert_refused(broken, "cannot be understood", describe)
