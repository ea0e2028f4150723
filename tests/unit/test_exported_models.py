"""Exported graphs as models of heads: read in a child first, and scored by the runtime."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from tests.graphs import LABELS, NUM_SAMPLES, RATE, save_described, save_wave_graph
from tonearm import own_process
from tonearm.errors import CheckpointError, SettingsError, UsageError
from tonearm.heads import HeadSettings
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint, is_hub_id
from tonearm.models.classifier import Classifier
from tonearm.models.exported import reading
from tonearm.models.exported.add import Added, add
from tonearm.models.exported.kept_graph import Facts
from tonearm.models.exported.runtime import settle, to_logits
from tonearm.models.openvino.processor import has_bf16
from tonearm.models.pooling import sigmoid, softmax
from tonearm.models.window_plan import plan_windows
from tonearm.planning.preparation import settle as settle_plan
from tonearm.settings import ModelSettings
from tonearm.tagging import TagPlan, plan_heads

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep nothing from one run of the tests for the next: a graph that was read before needs no child."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TONEARM_CACHE", folder)
        patch.setenv("XDG_CACHE_HOME", folder)
        yield


def windows(count: int = 5, num_samples: int = NUM_SAMPLES) -> Any:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (count, num_samples)).astype(np.float32)
    return [row * np.float32(0.2 * (number + 1)) for number, row in enumerate(noise)]


def expected(rows: Any) -> Any:
    from tests.unit.test_exported_graph import expected as scores_of

    return scores_of(np.stack([np.pad(row, (0, NUM_SAMPLES - len(row))) for row in rows]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, _cache: None) -> Path:
    return save_described(tmp_path_factory.mktemp("models") / "wave", hop_s=0.2, licence="MIT")


def test_a_folder_and_its_file_are_the_same_model(model: Path) -> None:
    folder, file = describe_checkpoint(str(model)), describe_checkpoint(str(model / "wave.xml"))
    assert folder.name == file.name == "wave"
    assert folder == file
    assert (folder.family, folder.labels, folder.sample_rate) == ("exported-xml", LABELS, RATE)
    assert (folder.native_window_s, folder.hop_s, folder.embedding_dim, folder.multi_label) == (0.5, 0.2, 6, True)
    assert folder.is_exported and not is_hub_id(str(model / "wave.xml"))
    plan = plan_windows(folder, None, None)
    assert (plan.window_samples, plan.hop_samples, plan.min_samples) == (NUM_SAMPLES, 1600, 200)


def test_a_hub_ids_file_is_fetched_once_its_description_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, asked = save_described(tmp_path / "4f1c0ffee"), []

    def download(source: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((source, revision, allow_patterns))
        return str(commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    info = describe_checkpoint("somebody/wave", revision="main")
    assert (info.name, info.revision, info.labels) == ("somebody/wave", "4f1c0ffee", LABELS)
    (_, _, first), (source, revision, then) = asked
    assert "tonearm.json" in first and "wave.xml" not in first
    assert (source, revision) == ("somebody/wave", "main") and {"wave.xml", "wave.bin"} <= {*then}


@pytest.mark.parametrize("is_fixed", [False, True])
def test_scores_and_embeddings_are_the_graphs_own(tmp_path: Path, is_fixed: bool) -> None:
    classifier = Classifier.load(str(save_described(tmp_path / "wave", is_fixed=is_fixed)), num_threads=2)
    assert classifier.describe() == {"runtime": "openvino", "precision": "fp32", "device": "cpu", "note": ""}
    rows = [*windows(), windows(1, 700)[0]]
    found, (scores, features) = classifier.score(rows), expected(rows)
    np.testing.assert_allclose(found.logits, scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.embedding, features, rtol=1e-4, atol=1e-4)
    alone = np.concatenate([classifier.score([row]).logits for row in rows])
    np.testing.assert_allclose(found.logits, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ending", ["sigmoid", "softmax"])
@pytest.mark.parametrize("is_multi", [True, False])
def test_scores_that_a_graph_has_applied_its_activation_to_come_out_as_they_are(
    tmp_path: Path, ending: str, is_multi: bool
) -> None:
    classifier = Classifier.load(str(save_described(tmp_path / "wave", activation=ending)), is_multi=is_multi)
    rows = windows()
    logits = expected(rows)[0]
    plain = sigmoid(logits) if ending == "sigmoid" else softmax(logits)
    found = classifier.score(rows).logits
    if is_multi:
        np.testing.assert_allclose(sigmoid(found), plain, atol=2e-6)
    elif ending == "softmax":
        np.testing.assert_allclose(softmax(found), plain, atol=2e-6)
    else:  # what softmax makes of the same logits, as with any model that was trained for many labels
        np.testing.assert_allclose(softmax(found), softmax(np.clip(logits, -16.2, 16.2)), atol=1e-3)


def test_scores_of_nothing_and_all_have_finite_logits() -> None:
    facts = Facts((), None, True, "independent", True, 1, 1, "", None, "")
    logits = to_logits(np.array([[0.0, 1.0, 0.25]], np.float32), facts, is_multi=True)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(sigmoid(logits), [[0, 1, 0.25]], atol=2e-7)


def test_another_file_or_description_is_another_revision(tmp_path: Path) -> None:
    folder = save_described(tmp_path / "wave")
    first = describe_checkpoint(str(folder)).revision
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    assert describe_checkpoint(str(copied)).revision == first
    save_wave_graph(folder / "wave.xml", gain=41.0)
    second = describe_checkpoint(str(folder)).revision
    values = json.loads((folder / "tonearm.json").read_text())
    values["model"]["hop_s"] = 0.1
    (folder / "tonearm.json").write_text(json.dumps(values))
    third = describe_checkpoint(str(folder)).revision
    assert len({first, second, third}) == 3
    values["calibration"] = {"temperature": 2.0, "thresholds": {}, "precision": 0.9}
    (folder / "tonearm.json").write_text(json.dumps({**values, "more": 1}))
    assert describe_checkpoint(str(folder)).revision == third  # a calibration is a fact of its own


def test_a_graph_is_read_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = describe_checkpoint(str(model))
    monkeypatch.setattr(own_process, "command", lambda *_: pytest.fail("a second child"))
    assert describe_checkpoint(str(model)) == info
    Classifier.load(str(model)).score(windows(1))


def test_a_network_that_says_something_else_than_when_it_was_read_is_refused(tmp_path: Path) -> None:
    folder = save_described(tmp_path / "wave", licence="of a third test")
    _, place = reading.kept(str(describe_checkpoint(str(folder)).digest))
    answers = np.load(place / "answers.npy")
    assert answers.shape == (3, len(LABELS))
    np.save(place / "answers.npy", answers + 0.5)
    with pytest.raises(CheckpointError, match=r"OpenVINO runs wave\.xml otherwise here than when it was read; delete"):
        Classifier.load(str(folder))


def test_a_file_that_ends_its_reader_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_described(tmp_path / "wave", licence="of this test")
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
    monkeypatch.setattr(own_process, "command", lambda *_: killed)
    with pytest.raises(CheckpointError, match=r"wave.xml: the process that reads it died of it \(SIGSEGV\)"):
        describe_checkpoint(str(folder))
    monkeypatch.undo()
    assert describe_checkpoint(str(folder)).embedding_dim == 6  # nothing was kept of it


def test_a_file_that_its_reader_hangs_on_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_described(tmp_path / "wave", licence="of another test")
    monkeypatch.setattr(
        own_process, "command", lambda *_: [sys.executable, "-c", "input(); import time; time.sleep(99)"]
    )
    monkeypatch.setattr(reading, "TIMEOUT_S", 0.5)
    with pytest.raises(CheckpointError, match=r"reading it took longer than 0\.5 s and was ended"):
        describe_checkpoint(str(folder))


def test_what_is_wrong_with_a_model_is_one_line(tmp_path: Path) -> None:
    folder = save_described(tmp_path / "wave", labels=[*LABELS, "more"], scores_output=0)
    with pytest.raises(CheckpointError, match="got 5 labels, and its output scores has the shape") as refused:
        describe_checkpoint(str(folder))
    assert "\n" not in refused.value.message
    (folder / "wave.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="OpenVINO cannot read it"):
        describe_checkpoint(str(folder))
    (folder / "wave.xml").unlink()
    with pytest.raises(CheckpointError, match=r"has no wave\.xml, which its tonearm\.json describes"):
        describe_checkpoint(str(folder))


def test_a_graph_without_a_description_is_refused(tmp_path: Path) -> None:
    path = save_wave_graph(tmp_path / "wave.xml")
    for source in (path, tmp_path):
        with pytest.raises(CheckpointError, match=r"wave\.xml is not described, so nothing says what it takes"):
            describe_checkpoint(str(source))
    with pytest.raises(CheckpointError, match=r"no file .*other\.onnx"):
        describe_checkpoint(str(tmp_path / "other.onnx"))
    other = save_wave_graph(save_described(tmp_path / "two") / "other.xml")
    with pytest.raises(CheckpointError, match=r"other\.xml is not what its tonearm\.json describes \(wave\.xml\)"):
        describe_checkpoint(str(other))


def test_precisions_that_exported_graphs_do_not_have_are_answered() -> None:
    assert settle("auto", "auto", "x") == settle("openvino", "fp32", "x") == ("fp32", "")
    assert settle("auto", "int8", "yamnet") == (
        "fp32",
        "not int8: yamnet is an exported graph, whose weights stay as they are stored",
    )
    assert settle("auto", "bf16", "x")[0] == ("bf16" if has_bf16() else "fp32")
    with pytest.raises(SettingsError, match="got runtime torch, and x is an exported graph, which OpenVINO runs"):
        settle("torch", "auto", "x")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_plan_settles_them_to_what_they_run_in(model: Path, device: str) -> None:
    models = ModelSettings(genre_model=None, tag_model=str(model), heads={"mood": HeadSettings(str(model), "single")})
    plan = TagPlan(plan_heads(models, max_windows=None, max_scored_s=60.0), models, 60.0)
    settled = settle_plan(plan, device)
    assert {(each.precision, each.is_settled) for each in settled.heads.values()} == {("fp32", True)}
    asked = dataclasses.replace(
        plan, heads={h: dataclasses.replace(p, precision="int8") for h, p in plan.heads.items()}
    )
    assert all("not int8: wave is an exported" in each.note for each in settle_plan(asked, "cpu").heads.values())


def add_wave(path: Path, names: Path, **more: Any) -> Added:
    given = {
        "labels": names,
        "front_end": "waveform",
        "rate": RATE,
        "activation": "sigmoid",
        "scores_output": "scores",
    }
    return add(path, **{**given, **more})


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(LABELS))
    return path


def test_add_describes_a_graph_and_tries_it(tmp_path: Path, labels: Path) -> None:
    path = save_wave_graph(tmp_path / "wave.xml")
    added = add_wave(path, labels, out=tmp_path / "model", hop_s=0.25, licence="MIT")
    assert (added.folder, added.clip, added.notes) == (tmp_path / "model", "a synthesized sound", ())
    assert (added.description.window_s, added.embedding_dim, added.multi_label) == (0.5, 6, True)
    assert len(added.top) == len(LABELS) and added.top[0][1] >= added.top[-1][1]
    assert not (tmp_path / "tonearm.json").exists()
    info: CheckpointInfo = describe_checkpoint(str(tmp_path / "model"))
    assert (info.labels, info.hop_s, info.sidecar.model) == (LABELS, 0.25, added.description)


def test_add_again_changes_what_is_given_and_keeps_the_rest(tmp_path: Path, labels: Path) -> None:
    path = save_wave_graph(tmp_path / "wave.xml")
    add_wave(path, labels)
    there = json.loads((tmp_path / "tonearm.json").read_text())
    fitted = {"temperature": 2.0, "thresholds": {}, "precision": 0.9}
    (tmp_path / "tonearm.json").write_text(json.dumps({**there, "calibration": fitted, "more": [1]}))
    add(path, licence="MIT")
    after = json.loads((tmp_path / "tonearm.json").read_text())
    assert (after["more"], after["calibration"]) == ([1], fitted)
    assert after["model"] == {**there["model"], "licence": "MIT"}
    add(path, hop_s=0.1)  # other windows, for which the calibration was not fitted
    after = json.loads((tmp_path / "tonearm.json").read_text())
    assert "calibration" not in after and after["more"] == [1]


def test_add_does_not_apply_an_activation_twice(tmp_path: Path, labels: Path) -> None:
    path = save_wave_graph(tmp_path / "wave.xml", activation="sigmoid")
    for given in ("sigmoid", None):
        added = add_wave(path, labels, activation=given, out=tmp_path / str(given))
        assert (added.description.activation, added.multi_label) == ("none", True)
        assert bool(added.notes) == (given is not None)
    with pytest.raises(CheckpointError, match="activation is softmax, but the graph ends in a sigmoid already"):
        add_wave(path, labels, activation="softmax", out=tmp_path / "softmax")


ADD_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no front end": (
        {"front_end": None},
        "the front end is not described: its input wave has the shape [1, 4000]; say",
    ),
    "no rate": ({"rate": None}, "the front end is not described: its input wave has the shape [1, 4000]; give --rate"),
    "no labels": ({"labels": None}, "got no labels; give --labels FILE, in the order of its 4 or 6 scores"),
    "no activation": ({"activation": None}, "nothing says what its scores are; give --activation"),
    "a parameter of another front end": ({"parameters": {"n_fft": 512}}, "--set n_fft: a waveform front end has"),
    "half a spectrogram": ({"front_end": "log-mel"}, "has no front_end.n_fft"),
    "another window": ({"window_s": 0.25}, "a window of 0.25 s at 8,000 Hz has 2,000 samples"),
    "a clip that is not there": ({"clip": Path("nothing.wav")}, "nothing.wav is no file; give --clip an audio file"),
}


@pytest.mark.parametrize("case", ADD_REFUSED)
def test_add_writes_nothing_where_it_does_not_work(tmp_path: Path, labels: Path, case: str) -> None:
    changes, message = ADD_REFUSED[case]
    path = save_wave_graph(tmp_path / "wave.xml")
    with pytest.raises(UsageError) as refused:
        add_wave(path, labels, **changes)
    assert message in refused.value.message and "\n" not in refused.value.message
    assert refused.value.exit_status == 2
    assert not (tmp_path / "tonearm.json").exists()


def test_add_names_the_length_that_a_graph_leaves_open(tmp_path: Path, labels: Path) -> None:
    path = save_wave_graph(tmp_path / "wave.xml", shape=(-1, -1))
    with pytest.raises(
        UsageError, match=r"its input has the shape \[\?, \?\], which leaves the length of a window open"
    ):
        add_wave(path, labels)
    assert add_wave(path, labels, window_s=0.5).description.window_s == 0.5


def test_what_is_no_graph_is_not_added(tmp_path: Path, labels: Path) -> None:
    for name, message in (("missing.onnx", "is no file"), ("labels.txt", "is no exported graph")):
        with pytest.raises(UsageError, match=message):
            add_wave(tmp_path / name, labels)
    (tmp_path / "bad.onnx").write_bytes(b"no graph at all")
    with pytest.raises(CheckpointError, match=r"bad\.onnx: OpenVINO cannot read it"):
        add_wave(tmp_path / "bad.onnx", labels)
    two = save_described(tmp_path / "two")
    with pytest.raises(UsageError, match=r"describes wave\.xml already; give another folder with --out"):
        add_wave(save_wave_graph(two / "other.xml"), labels)
