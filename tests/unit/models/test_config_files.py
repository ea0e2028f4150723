"""A checkpoint's JSON files that ask for code, or that describe what no model can be, are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.broken_checkpoints import EVIL, GONE, assert_refused, describe, edit, load
from tests.checkpoints import AST
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.config_files import check_is_model
from tonearm.training.fit.initial import read_initial_model


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


def test_an_adapter_is_no_model(broken: Path) -> None:
    (broken / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": EVIL}))
    assert_refused(broken, "is an adapter for another model")


def test_config_that_cannot_be_read(broken: Path) -> None:
    (broken / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        describe_checkpoint(str(broken))
    (broken / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no model; expected config\.json"):
        describe_checkpoint(str(broken))


def test_a_folder_of_other_things_is_told_what_a_model_is(tmp_path: Path) -> None:
    """Only config.json was named, which says little to whoever gave the folder of their music."""
    (tmp_path / "song.mp3").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"holds no model; expected config\.json with model"):
        check_is_model(tmp_path, str(tmp_path))
