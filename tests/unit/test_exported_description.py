"""``tonearm.json``: one schema for calibrations and descriptions of exported graphs; labels from their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.graphs import MEL, described
from tonearm.errors import CheckpointError
from tonearm.models.calibration import SCHEMA, Calibration, TonearmSidecar, read_sidecar, write_sidecar
from tonearm.models.exported.description import LogMelFrontEnd, essence, parse, to_json
from tonearm.models.exported.labels import read_labels

FITTED = Calibration(1.5, {"quiet": 0.25, "loud": None}, 0.9)


def put(folder: Path, **values: Any) -> Path:
    (folder / "tonearm.json").write_text(json.dumps(values))
    return folder


def stored(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tonearm.json").read_text())
    return found


@pytest.mark.parametrize("front_end", [None, MEL])
def test_a_description_is_read_as_it_was_written(tmp_path: Path, front_end: Any) -> None:
    more = {"hop_s": 0.25, "padding": "repeat", "licence": "MIT", "scores_output": "scores", "embedding_output": 1}
    made = parse(described("wave.xml", **({"front_end": front_end} if front_end else {}), **more))
    write_sidecar(tmp_path, TonearmSidecar(model=made, calibration=FITTED))
    assert read_sidecar(tmp_path) == TonearmSidecar(None, FITTED, made)
    assert stored(tmp_path)["schema"] == SCHEMA


def test_files_of_before_are_of_schema_1(tmp_path: Path) -> None:
    put(tmp_path, window_s=2.0, calibration={"temperature": 1.5, "thresholds": {"quiet": 0.25}, "precision": 0.9})
    assert read_sidecar(tmp_path) == TonearmSidecar(2.0, Calibration(1.5, {"quiet": 0.25}, 0.9))


def test_unknown_keys_are_kept_by_whatever_rewrites_the_file(tmp_path: Path) -> None:
    model = {**described("wave.xml", MEL), "quantized": True}
    model["front_end"] = {**MEL, "dither": 0.1}
    put(tmp_path, schema=1, model=model, teacher="somebody/else", cascade={"below": 0.3})
    before = read_sidecar(tmp_path)
    write_sidecar(tmp_path, TonearmSidecar(before.window_s, FITTED, before.model))
    after = stored(tmp_path)
    assert (after["teacher"], after["cascade"]) == ("somebody/else", {"below": 0.3})
    assert (after["model"]["quantized"], after["model"]["front_end"]["dither"]) == (True, 0.1)
    assert after["model"]["front_end"]["n_fft"] == 256
    assert read_sidecar(tmp_path) == TonearmSidecar(None, FITTED, before.model)


def test_what_is_taken_out_is_gone(tmp_path: Path) -> None:
    write_sidecar(tmp_path, TonearmSidecar(2.0, FITTED))
    write_sidecar(tmp_path, TonearmSidecar(2.0))
    assert stored(tmp_path) == {"schema": SCHEMA, "window_s": 2.0}


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    put(tmp_path, schema=SCHEMA + 1, model={"everything": "is elsewhere"})
    for use in (read_sidecar, lambda folder: write_sidecar(folder, TonearmSidecar(2.0))):
        with pytest.raises(
            CheckpointError, match="has schema 2, and this tonearm knows schemas up to 1; install a newer"
        ):
            use(tmp_path)
    assert stored(tmp_path)["model"] == {"everything": "is elsewhere"}


@pytest.mark.parametrize("schema", ["1", 0, True, None, 1.5])
def test_a_schema_that_is_no_number_is_refused(tmp_path: Path, schema: Any) -> None:
    with pytest.raises(CheckpointError, match="cannot be understood"):
        read_sidecar(put(tmp_path, schema=schema))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no front end": ({"front_end": None}, "has no front_end, and nothing else says what wave.xml takes"),
    "another front end": ({"front_end": {"kind": "mfcc"}}, "front_end.kind is 'mfcc', expected waveform or log-mel"),
    "no rate": ({"front_end": {"kind": "waveform"}}, "has no front_end.sample_rate"),
    "a rate in words": ({"front_end": {"kind": "waveform", "sample_rate": "16k"}}, "expected a whole number"),
    "a low rate": ({"front_end": {"kind": "waveform", "sample_rate": 16}}, "sample_rate is 16, expected 1,000 to"),
    "half a spectrogram": ({"front_end": {"kind": "log-mel", "sample_rate": 16000}}, "has no front_end.n_fft"),
    "no bands": ({"front_end": {**MEL, "num_mel_bins": 0}}, "num_mel_bins is 0, expected a whole number from 1"),
    "a long taper": ({"front_end": {**MEL, "win_length": 512}}, "win_length is 512, expected at most n_fft, 256"),
    "bands beyond": ({"front_end": {**MEL, "f_max": 5000.0}}, "got mel bands from 0 to 5000 Hz, expected 0 to 4000 Hz"),
    "another scale": ({"front_end": {**MEL, "mel_scale": "bark"}}, "mel_scale is 'bark', expected htk or slaney"),
    "another norm": ({"front_end": {**MEL, "norm": 1}}, "front_end.norm is 1, expected slaney or null"),
    "the logarithm of silence": ({"front_end": {**MEL, "log_offset": 0, "log_floor": 0}}, "silence has no logarithm"),
    "no window": ({"window_s": None}, "window_s is None, expected a number"),
    "a window of nothing": ({"window_s": 0}, "window_s is 0, expected 0.025 to 3600 s"),
    "gaps": ({"hop_s": 0.6}, "hop_s is 0.6, expected more than 0 and at most window_s, 0.5"),
    "no labels": ({"labels": []}, "has no labels"),
    "labels in a text": ({"labels": "classes.csv"}, "labels is 'classes.csv', expected a list of texts"),
    "labels twice": ({"labels": ["a", "b", "a"]}, "has the label 'a' more than once"),
    "no activation": ({"activation": None}, "activation is None, expected none or sigmoid or softmax"),
    "another padding": ({"padding": "reflect"}, "padding is 'reflect', expected zeros or repeat"),
    "a layout without samples": ({"layout": ["batch", "mel"]}, "layout is batch, mel, expected samples"),
    "another kind of file": ({"file": "wave.pt"}, "file is 'wave.pt', expected the name of an .onnx"),
    "a file elsewhere": ({"file": "../wave.xml"}, "expected the name of an .onnx, .tflite or .xml file"),
    "an output of neither kind": ({"scores_output": 1.5}, "scores_output is 1.5, expected a whole number or a text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_graph_can_be_is_refused_in_a_line(tmp_path: Path, case: str) -> None:
    changes, message = REFUSED[case]
    put(tmp_path, schema=1, model={**described("wave.xml"), **changes})
    with pytest.raises(CheckpointError) as refused:
        read_sidecar(tmp_path)
    said = str(refused.value)
    assert message in said and "tonearm.json cannot be understood (" in said and "\n" not in said


def test_the_essence_leaves_out_what_is_as_by_default() -> None:
    made = parse(described("wave.xml", MEL))
    assert "padding" not in essence(made) and "center" not in str(essence(made))
    assert essence(made) == essence(parse(to_json(made)))
    changed = parse(described("wave.xml", {**MEL, "center": False}))
    assert essence(changed) != essence(made)
    assert isinstance(made.front_end, LogMelFrontEnd)


LABEL_FILES = {
    "classes.csv": 'index,mid,display_name\n0,/m/1,Speech\n1,/m/2,"Child speech, kid speaking"\n',
    "shuffled.csv": 'name,id\n"Child speech, kid speaking",1\nSpeech,0\n',
    "bare.csv": 'Speech\n"Child speech, kid speaking"\n',
    "classes.tsv": "label\tcount\nSpeech\t7\nChild speech, kid speaking\t2\n",
    "classes.txt": "\ufeffSpeech\n\nChild speech, kid speaking\n",
    "classes.json": '["Speech", "Child speech, kid speaking"]',
    "id2label.json": '{"1": "Child speech, kid speaking", "0": "Speech"}',
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_labels_come_from_the_files_that_models_come_with(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LABEL_FILES[name], encoding="utf-8")
    assert read_labels(tmp_path / name) == ("Speech", "Child speech, kid speaking")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.csv", "mid,count\n/m/1,2\n", "has the columns mid, count, expected one of display_name, label"),
        ("classes.csv", "index,name\n0,a\n2,b\n", "has the places 0, 2 ..., expected 0 to 1"),
        ("classes.txt", "a\nb\na\n", "has the label 'a' more than once"),
        ("classes.txt", "\n", "has no labels"),
        ("classes.json", "{", "cannot be used"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError) as refused:
        read_labels(tmp_path / name)
    assert message in str(refused.value)


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_labels(tmp_path / "classes.csv")
