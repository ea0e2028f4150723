"""What no exported graph can be is refused, and a description's essence is what is not as by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.graphs import MEL, described, put_sidecar
from tonearm.errors import CheckpointError
from tonearm.models.calibration import read_sidecar
from tonearm.models.exported.description import LogMelFrontEnd, essence, parse, to_json

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
    put_sidecar(tmp_path, schema=1, model={**described("wave.xml"), **changes})
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
