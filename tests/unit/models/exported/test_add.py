"""``tonearm models add FILE`` describes a graph and tries it, or writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.graphs import LABELS, RATE, save_described, save_wave_graph
from tonearm.errors import CheckpointError, UsageError
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint
from tonearm.models.exported.add import Added, add

pytestmark = pytest.mark.processes


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
