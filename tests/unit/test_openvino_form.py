"""OpenVINO's form of a checkpoint: made once, found by the weights' hash, in int8 only where it says what fp32 says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.checkpoints import clips, save_small
from tonearm.errors import SettingsError
from tonearm.models import checkpoint, runtimes
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.classifier import Classifier
from tonearm.models.openvino import cache as converted
from tonearm.models.openvino import rates
from tonearm.models.openvino.cache import Converted, Int8Check
from tonearm.models.openvino.runtime import OpenVinoRuntime

RATE = 16000


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this module's own, so that what is found was made here."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "tonearm" / "models"


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return save_small(tmp_path_factory.mktemp("checkpoints") / "hubert", "hubert")


@pytest.fixture(scope="module")
def form(hubert: Path) -> Converted:
    digest = describe_checkpoint(str(hubert)).revision
    return converted.convert(str(hubert), hubert, digest, revision=None, allow_pickle=False, num_threads=2)


def windows(num_windows: int, length_s: float = 1.0) -> NDArray[np.float32]:
    return np.stack(clips(17, num_clips=num_windows, length_s=length_s))


@pytest.mark.parametrize("do_normalize", [True, False])
def test_waveforms_are_the_same_without_torch(do_normalize: bool) -> None:
    import torch

    from tonearm.models.features import RawWaveform

    features = RawWaveform(do_normalize=do_normalize, return_attention_mask=False)
    loud, quiet, silent = windows(1, 30.0)[0], windows(1, 30.0)[0] * np.float32(1e-4) + np.float32(0.2), 0.0
    heard = np.stack([loud, quiet, np.full_like(loud, silent)])
    (expected,) = features(torch.from_numpy(heard)).values()
    np.testing.assert_allclose(features.of_array(heard), expected.numpy(), atol=2e-3 * do_normalize)
    np.testing.assert_allclose(features.of_array(heard)[::2], expected.numpy()[::2], atol=5e-6)


def no_child(message: dict[str, object]) -> None:
    raise AssertionError(f"a process was started to {message['task']}")


@pytest.mark.processes
def test_what_was_converted_is_found_by_the_hash_of_the_weights(
    hubert: Path, form: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converted, "run_child", no_child)
    copy = tmp_path / "under another name"
    copy.mkdir()
    for path in hubert.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert Classifier.load(str(copy), runtime="openvino").describe()["runtime"] == "openvino"
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + np.float32(0.5).tobytes())
    with pytest.raises(AssertionError, match="convert"):
        Classifier.load(str(copy), runtime="openvino")


GROWTH = """
import numpy as np, psutil
from tonearm import demo
from tonearm.models.classifier import Classifier

classifier = Classifier.load(demo.genre_model_path(), runtime="openvino", num_threads=1)
window = np.random.default_rng(0).standard_normal(70_000).astype(np.float32)
for number in range(100):
    classifier.score([window[: 20_000 + 500 * number]])
    if number in (19, 99):
        print(psutil.Process().memory_info().rss)
"""


@pytest.mark.processes
def test_tracks_of_every_length_leave_nothing_behind() -> None:
    """What a network makes for a shape of input is not kept for ever: short tracks are all of another length."""
    made = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    early, late = map(int, made.stdout.split())
    assert late - early < 60 * 2**20


SIGNALLED = """
import gc, signal
from tonearm import demo
from tonearm.models.classifier import Classifier

first = Classifier.load(demo.genre_model_path(), runtime="openvino", num_threads=1)
second = Classifier.load(demo.tag_model_path(), runtime="openvino", num_threads=1)
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.processes
def test_ctrl_c_is_still_heard_when_models_have_come_and_gone() -> None:
    made = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=False)
    assert (made.stdout, made.returncode) == ("interrupted\n", 0)


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="only there is it known what is resident")
def test_the_weights_do_not_stay_in_memory_twice(form: Converted) -> None:
    runtime = OpenVinoRuntime(form, "fp32", num_threads=1)
    first = runtime.run(windows(1))
    assert resident_bytes(form.network_path.with_suffix(".bin")) == 0
    # What is read again comes back from the file.
    np.testing.assert_array_equal(runtime.run(windows(1, length_s=1.0))[0], first[0])
    mapped = np.memmap(form.network_path.with_suffix(".bin"), np.uint8, "r")
    assert int(mapped.sum()) > 0
    assert resident_bytes(form.network_path.with_suffix(".bin")) > 0


def resident_bytes(path: Path) -> int:
    """Return how much of a file this process has mapped and resident."""
    total, is_it = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_it = line.endswith(str(path.resolve()))
        elif is_it and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.processes
def test_the_description_is_that_of_the_checkpoints_own_files(
    hubert: Path, form: Converted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_form = describe_checkpoint(str(hubert))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.cache, "find", lambda folder, digest: None)
        assert describe_checkpoint(str(hubert)) == from_form


@pytest.mark.processes
def test_any_length_scores_as_torch_does(hubert: Path, form: Converted) -> None:
    fast, exact = (Classifier.load(str(hubert), runtime=name, precision="fp32") for name in ("openvino", "torch"))
    for length_s in (0.5, 1.0, 3.7, 10.0):
        (waveform,) = clips(23, num_clips=1, length_s=length_s)
        found, wanted = fast.score([waveform]), exact.score([waveform])
        np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-4)
        np.testing.assert_allclose(found.embedding, wanted.embedding, atol=1e-4)


@pytest.mark.processes
def test_several_passes_at_a_time_give_the_same_in_order(form: Converted) -> None:
    from tonearm.models.openvino.runtime import OpenVinoRuntime

    batch = windows(5)
    one = OpenVinoRuntime(form, "fp32", num_threads=2)
    two = OpenVinoRuntime(form, "fp32", num_threads=2, num_streams=2)
    for values, others in zip(one.run(batch), two.run(batch), strict=True):
        np.testing.assert_allclose(values, others, atol=1e-5)
    assert one.features_s > 0


@pytest.mark.processes
def test_streams_are_measured_once_for_each_number_of_threads(
    form: Converted, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tonearm.models.openvino import runtime as openvino_runtime

    asked = []

    def measured(_: Converted, precision: str, window: NDArray[np.float32], threads: int) -> dict[str, float]:
        asked.append((precision, len(window), threads))
        return {"1x2": 1.0, "2x1": 2.0}

    monkeypatch.setattr(openvino_runtime, "measure_streams", measured)
    assert [rates.fastest_streams(form, "fp32", RATE, 2) for _ in range(2)] == [2, 2]
    assert asked == [("fp32", RATE, 2)]
    assert rates.fastest_streams(form, "fp32", RATE, 1) == 1
    (kept,) = cache.glob("*.rates.json")
    kept.write_text(kept.read_text()[:10])  # as a full disk leaves it
    assert rates.fastest_streams(form, "fp32", RATE, 2) == 2
    assert len(asked) == 2
    kept.unlink()


@pytest.mark.processes
def test_measuring_streams_gives_a_rate_for_either_layout(form: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    from tonearm.models.openvino import runtime as openvino_runtime
    from tonearm.models.openvino.runtime import measure_streams

    monkeypatch.setattr(openvino_runtime, "TRY_S", 0.1)
    measured = measure_streams(form, "fp32", windows(1)[0], 2)
    assert set(measured) == {"1x2", "2x1"}
    assert min(measured.values()) > 0


@pytest.mark.processes
def test_int8_is_refused_before_it_was_calibrated(hubert: Path, form: Converted) -> None:
    with pytest.raises(SettingsError, match="tonearm tag LIBRARY"):
        Classifier.load(str(hubert), precision="int8")


@pytest.mark.processes
def test_int8_that_says_something_else_gives_way_to_the_next_best(hubert: Path, form: Converted) -> None:
    from tonearm.models.openvino.processor import has_bf16

    verdict = converted.quantize(form, windows(30), num_calibrated=8, is_guarded=True, is_multi=False, num_threads=2)
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


@pytest.mark.processes
def test_int8_is_quantized_once_and_runs(hubert: Path, form: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = converted.quantize(form, windows(30), num_calibrated=8, is_guarded=True, is_multi=False, num_threads=2)
    monkeypatch.setattr(converted, "run_child", no_child)
    again = converted.quantize(form, windows(30), num_calibrated=8, is_guarded=True, is_multi=False, num_threads=2)
    assert again == verdict
    if verdict.refused is None:
        classifier = Classifier.load(str(hubert), precision="int8")
        assert classifier.describe()["precision"] == "int8"
        exact = Classifier.load(str(hubert), runtime="torch", precision="fp32").score(list(windows(4))).logits
        assert np.abs(classifier.score(list(windows(4))).logits - exact).max() < np.abs(exact).max()


@pytest.mark.processes
def test_the_guard_counts_first_labels_and_moves(form: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    from tonearm.models.openvino import convert

    class Says:
        def __init__(self, logits: list[list[float]]) -> None:
            self.rows = iter(np.array(logits, np.float32)[:, None])

        def run(self, window: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            return next(self.rows), np.zeros((1, 1), np.float32)

    def judged(found: list[list[float]], *, is_multi: bool) -> Int8Check:
        said = {"fp32": [[2.0, 1.0]] * len(found), "int8": found}
        monkeypatch.setattr(convert, "OpenVinoRuntime", lambda form, precision, num_threads: Says(said[precision]))
        begun = Int8Check(8, len(found), 1.0, 0.0)
        return convert._verdict(begun, form, windows(len(found)), is_multi=is_multi, num_threads=1)

    assert judged([[2.0, 1.0]] * 100, is_multi=True).refused is None
    assert judged([[2.0, 1.0]] * 99 + [[1.0, 2.0]], is_multi=False).refused is None
    assert "98.0% of 100" in str(judged([[2.0, 1.0]] * 98 + [[1.0, 2.0]] * 2, is_multi=False).refused)
    far = [[2.0, 1.0]] * 99 + [[2.5, 1.0]]  # sigmoid(2.5) - sigmoid(2.0) = 0.043
    assert judged(far, is_multi=False).refused is None
    assert "moves by 0.043" in str(judged(far, is_multi=True).refused)
    # One verdict is kept for both readings of a checkpoint.
    verdict = judged(far, is_multi=False)
    assert verdict.refusal(is_multi=False) is None
    assert "moves by 0.043" in str(verdict.refusal(is_multi=True))
    assert Int8Check(8, 0, 1.0, 0.0).refusal(is_multi=True) is None


@pytest.mark.processes
def test_a_packed_form_is_found_on_another_machine(
    hubert: Path, form: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, files = describe_checkpoint(str(hubert)).revision, converted.pack(form)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert converted.find(hubert, digest) is None
    converted.unpack(digest, files)
    found = converted.find(hubert, digest)
    assert found is not None
    assert found.folder.is_relative_to(tmp_path)
    assert {path.name for path in found.folder.iterdir()} == set(files)


def test_a_small_model_nobody_converted_stays_with_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "run_child", no_child)
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


def test_choosing_loads_neither_runtime() -> None:
    assert runtimes.choose("auto", "auto", "cpu") == ("openvino", "fp32", "cpu")
    assert runtimes.choose("auto", "int8", "cpu") == ("openvino", "int8", "cpu")
    assert runtimes.choose("auto", "auto", "cuda") == ("torch", "fp16", "cuda")
    for runtime, precision, device in (("torch", "int8", "cpu"), ("auto", "int8", "cuda"), ("auto", "fp16", "cpu")):
        with pytest.raises(SettingsError, match=f"precision {precision}"):
            runtimes.choose(runtime, precision, device)
    with pytest.raises(SettingsError, match="expected a CPU"):
        runtimes.choose("openvino", "auto", "cuda")
