"""Which runtime and precision a checkpoint gets: int8 only where it was calibrated and agrees with fp32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.checkpoints import save_small
from tests.converted import no_child, windows
from tonearm.errors import SettingsError
from tonearm.models.classifier import Classifier
from tonearm.models.openvino import cache
from tonearm.models.openvino.cache import Converted, Int8Check


@pytest.mark.processes
def test_int8_is_refused_before_it_was_calibrated(hubert: Path, form: Converted) -> None:
    with pytest.raises(SettingsError, match="tonearm tag LIBRARY"):
        Classifier.load(str(hubert), precision="int8")


@pytest.mark.processes
def test_int8_that_says_something_else_gives_way_to_the_next_best(hubert: Path, form: Converted) -> None:
    from tonearm.models.openvino.processor import has_bf16

    verdict = cache.quantize(form, windows(30), num_calibrated=8, is_guarded=True, is_multi=False, num_threads=2)
    assert (verdict.num_calibrated, verdict.num_checked) == (8, 22)
    spoiled = Int8Check(8, 22, 0.5, 0.1, "the first label is the same in 50.0% of 22 windows")
    kept = (form.folder / "int8.json").read_text()
    (form.folder / "int8.json").write_text(json.dumps(vars(spoiled)))
    try:
        described = Classifier.load(str(hubert), precision="int8").describe()
    finally:
        (form.folder / "int8.json").write_text(kept)
    assert described["precision"] == ("bf16" if has_bf16() else "fp32")
    assert "50.0%" in described["note"]


def test_a_small_model_nobody_converted_stays_with_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "run_child", no_child)
    folder = save_small(tmp_path / "small", "wav2vec2")
    assert Classifier.load(str(folder)).describe()["runtime"] == "torch"


@pytest.mark.slow
def test_what_openvino_cannot_run_goes_to_torch_unless_it_was_asked_for(tmp_path: Path) -> None:
    """A model that OpenVINO cannot run is run by torch; asked for by name, it is refused."""
    folder = save_small(tmp_path / "bert", "wav2vec2-bert")
    described = Classifier.load(str(folder), precision="bf16").describe()
    assert (described["runtime"], described["precision"]) == ("torch", "bf16")
    assert "transformers' own" in described["note"]
    with pytest.raises(SettingsError, match="wav2vec2-bert"):
        Classifier.load(str(folder), runtime="openvino")
