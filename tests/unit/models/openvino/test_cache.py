"""A converted checkpoint is made once, found by its weights' hash, and sent to machines with another disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.converted import no_child, windows
from tonearm.models import checkpoint
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.classifier import Classifier
from tonearm.models.openvino import cache
from tonearm.models.openvino.cache import Converted


@pytest.mark.processes
def test_what_was_converted_is_found_by_the_hash_of_the_weights(
    hubert: Path, form: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "run_child", no_child)
    copy = tmp_path / "under another name"
    copy.mkdir()
    for path in hubert.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert Classifier.load(str(copy), runtime="openvino").describe()["runtime"] == "openvino"
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + np.float32(0.5).tobytes())
    with pytest.raises(AssertionError, match="convert"):
        Classifier.load(str(copy), runtime="openvino")


@pytest.mark.processes
def test_the_description_is_that_of_the_checkpoints_own_files(
    hubert: Path, form: Converted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_form = describe_checkpoint(str(hubert))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.cache, "find", lambda folder, digest: None)
        assert describe_checkpoint(str(hubert)) == from_form


@pytest.mark.processes
def test_int8_is_quantized_once_and_runs(hubert: Path, form: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = cache.quantize(form, windows(30), num_calibrated=8, is_guarded=True, is_multi=False, num_threads=2)
    monkeypatch.setattr(cache, "run_child", no_child)
    again = cache.quantize(form, windows(30), num_calibrated=8, is_guarded=True, is_multi=False, num_threads=2)
    assert again == verdict
    if verdict.refused is None:
        classifier = Classifier.load(str(hubert), precision="int8")
        assert classifier.describe()["precision"] == "int8"
        exact = Classifier.load(str(hubert), runtime="torch", precision="fp32").score(list(windows(4))).logits
        assert np.abs(classifier.score(list(windows(4))).logits - exact).max() < np.abs(exact).max()


@pytest.mark.processes
def test_a_packed_form_is_found_on_another_machine(
    hubert: Path, form: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, files = describe_checkpoint(str(hubert)).revision, cache.pack(form)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.find(hubert, digest) is None
    cache.unpack(digest, files)
    found = cache.find(hubert, digest)
    assert found is not None
    assert found.folder.is_relative_to(tmp_path)
    assert {path.name for path in found.folder.iterdir()} == set(files)
