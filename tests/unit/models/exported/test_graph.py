"""Exported graphs are read and brought into one form, or refused in a line; in this process, not in a child."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from tests.graphs import (
    BINS,
    FRAMES,
    LABELS,
    MEL,
    NUM_FEATURES,
    NUM_SAMPLES,
    ONNX,
    RATE,
    convert_graph,
    described,
    expected_scores,
    noise_windows,
    run_network,
    save_mel_graph,
    save_wave_graph,
    weights,
)
from tonearm.models.exported import graph
from tonearm.models.exported.description import parse
from tonearm.models.exported.front_end import network_inputs
from tonearm.models.exported.tensors import GraphError


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((NUM_SAMPLES,), ("samples",)),
        ((1, NUM_SAMPLES), ("batch", "samples")),
        ((-1, NUM_SAMPLES), ("batch", "samples")),
        ((-1, -1), ("batch", "samples")),
        ((1, 1, NUM_SAMPLES), ("batch", "channel", "samples")),
        ((1, NUM_SAMPLES, 1), ("batch", "samples", "channel")),
    ],
)
def test_a_waveform_of_any_shape_gives_the_same(
    tmp_path: Path, shape: tuple[int, ...], layout: tuple[str, ...]
) -> None:
    values = described("wave.xml")
    facts, out = convert_graph(save_wave_graph(tmp_path / "wave.xml", shape=shape), values)
    assert facts.layout == layout
    assert facts.is_batched == ("batch" in layout)
    assert facts.embedding_dim == NUM_FEATURES  # what the last product takes
    found = run_network(out, values, facts, noise_windows())
    for each, wanted in zip(found, expected_scores(noise_windows()), strict=True):
        np.testing.assert_allclose(each, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, BINS, FRAMES), ("batch", "mel", "frames")),
        ((-1, FRAMES, BINS), ("batch", "frames", "mel")),
        ((-1, 1, BINS, FRAMES), ("batch", "channel", "mel", "frames")),
        ((1, FRAMES, BINS, 1), ("batch", "frames", "mel", "channel")),
        ((FRAMES, BINS), ("frames", "mel")),
        ((1, BINS, -1), ("batch", "mel", "frames")),
        ((1, BINS, FRAMES - 1), ("batch", "mel", "frames")),  # the last frame is cut off
    ],
)
def test_a_spectrogram_of_any_layout(tmp_path: Path, shape: tuple[int, ...], layout: tuple[str, ...]) -> None:
    values = described("mel.xml", MEL)
    path = save_mel_graph(tmp_path / "mel.xml", shape=shape, mel_axis=layout.index("mel"))
    facts, out = convert_graph(path, values)
    assert facts.layout == layout
    assert facts.num_frames == (FRAMES if shape[layout.index("frames")] == -1 else shape[layout.index("frames")])
    assert facts.is_batched == ("batch" in layout)
    spectrograms = network_inputs(noise_windows(), parse(values), ("batch", "mel", "frames"), facts.num_frames)
    wanted = spectrograms.mean(axis=2) @ (weights(BINS, len(LABELS)) / 40)
    np.testing.assert_allclose(run_network(out, values, facts, noise_windows())[0], wanted, rtol=1e-4, atol=1e-4)


def test_an_onnx_file_whose_batch_and_outputs_have_names(tmp_path: Path) -> None:
    path = tmp_path / ONNX.name
    path.write_bytes(ONNX.read_bytes())
    labels = ["a", "b", "c", "d", "e"]
    values = described(ONNX.name, MEL, labels=labels, activation="softmax", embedding_output="pooled")
    facts, out = convert_graph(path, values)
    assert (facts.scores_name, facts.embedding_name, facts.embedding_dim) == ("scores", "pooled", BINS)
    assert facts.is_batched and not facts.multi_label and facts.num_parameters >= BINS * 5
    spectrograms = network_inputs(noise_windows(), parse(values), ("batch", "mel", "frames"), FRAMES)
    pooled = spectrograms.mean(axis=2)
    scores, embedding = run_network(out, values, facts, noise_windows())
    np.testing.assert_allclose(embedding, pooled, rtol=1e-4, atol=1e-4)
    product = np.random.default_rng(0).standard_normal((BINS, 5)).astype(np.float32) / 40  # as its maker says
    np.testing.assert_allclose(scores, pooled @ product, rtol=1e-4, atol=1e-4)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too many labels": (
        {"labels": [*LABELS, "more"]},
        "got 5 labels, and its output scores has the shape [1, 4], 4 scores a window; expected one score for each",
    ),
    "another window": (
        {"window_s": 1.0},
        "its input wave has the shape [1, 4000], which does not fit its front end: a window of 1 s at 8,000 Hz has "
        "8,000 samples",
    ),
    "another front end": (
        {"front_end": MEL},
        "its input wave has the shape [1, 4000], which does not fit its front end: a window of 0.5 s at 8,000 Hz gives "
        "40 mel bins and 51 frames",
    ),
    "another layout": ({"layout": ["samples"]}, "has 4,000 samples in the layout samples"),
    "no such output": ({"scores_output": 2}, "scores_output is 2, expected 0 to 1; its outputs are scores [1, 4]"),
    "no such tensor": ({"embedding_output": "nothing"}, "embedding_output is 'nothing', which no tensor"),
    "an embedding of stretches": (
        {"embedding_output": "stretches"},
        "embedding_output stretches has the shape [1, 4, 1000], expected one list of numbers for each window",
    ),
    "no activation": ({"activation": "none"}, "activation is none, but its scores of noise go from"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_a_line(tmp_path: Path, case: str) -> None:
    changes, message = REFUSED[case]
    path = save_wave_graph(tmp_path / "wave.xml")
    if case == "too many labels":
        changes = {**changes, "scores_output": "scores"}
    with pytest.raises(GraphError) as refused:
        convert_graph(path, {**described("wave.xml"), **changes})
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_an_activation_that_the_graph_ends_in_is_not_applied_again(tmp_path: Path) -> None:
    path = save_wave_graph(tmp_path / "wave.xml", activation="sigmoid")
    with pytest.raises(GraphError, match="activation is sigmoid, but the graph ends in a sigmoid already"):
        convert_graph(path, described("wave.xml"))


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    path = save_mel_graph(tmp_path / "mel.xml", shape=(1, BINS, FRAMES), mel_axis=1, num_inputs=3)
    with pytest.raises(GraphError, match=r"it has 3 inputs \(mel, more 0, more 1\), expected one"):
        convert_graph(path, described("mel.xml", MEL))


def test_axes_of_any_size_that_the_description_does_not_settle_are_refused(tmp_path: Path) -> None:
    path = save_mel_graph(tmp_path / "mel.xml", shape=(-1, -1, -1), mel_axis=1)
    with pytest.raises(GraphError, match=r"has the shape \[\?, \?, \?\], which may be batch, mel, frames"):
        convert_graph(path, described("mel.xml", MEL))
    facts, _ = convert_graph(path, described("mel.xml", MEL, layout=["batch", "mel", "frames"]))
    assert (facts.layout, facts.num_frames, facts.is_batched) == (("batch", "mel", "frames"), FRAMES, True)


def test_inputs_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    wave = ops.parameter([1, NUM_SAMPLES], np.int16, name="wave")
    scores = ops.reduce_mean(ops.convert(wave, "f32"), np.array([1]), True)
    openvino.save_model(openvino.Model([scores], [wave]), tmp_path / "wave.xml")
    with pytest.raises(GraphError, match="takes i16, expected float32"):
        convert_graph(tmp_path / "wave.xml", described("wave.xml"))


def test_scores_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    wave = ops.parameter([1, NUM_SAMPLES], np.float32)
    zero = ops.subtract(wave, wave)
    scores = ops.reduce_mean(ops.divide(zero, zero), np.array([1]), True)
    openvino.save_model(openvino.Model([scores], [wave]), tmp_path / "wave.xml", compress_to_fp16=False)
    with pytest.raises(GraphError, match="says what is not a number of a window of noise"):
        convert_graph(tmp_path / "wave.xml", described("wave.xml", labels=["one"]))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "another file": lambda data: b"RIFF....WAVEfmt ",
    "cut off": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".xml"])
def test_a_damaged_file_is_refused_in_a_line(tmp_path: Path, damage: str, suffix: str) -> None:
    source = ONNX if suffix == ".onnx" else save_wave_graph(tmp_path / "whole.xml")
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(DAMAGES[damage](source.read_bytes()))
    with pytest.raises(GraphError) as refused:
        graph.inspect(path)
    said = str(refused.value)
    assert said.startswith("OpenVINO cannot read it (") and "the file is damaged" in said and "\n" not in said


def test_weights_that_are_missing_are_a_damage(tmp_path: Path) -> None:
    path = save_wave_graph(tmp_path / "wave.xml")
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(GraphError, match="OpenVINO cannot read it"):
        graph.inspect(path)


def test_what_a_graph_takes_and_gives(tmp_path: Path) -> None:
    found = graph.inspect(save_wave_graph(tmp_path / "wave.xml", shape=(-1, NUM_SAMPLES), activation="softmax"))
    assert found == {
        "input": {"name": "wave", "shape": [None, NUM_SAMPLES]},
        "outputs": [
            {"name": "scores", "num_scores": len(LABELS), "ending": "exclusive"},
            {"name": "features", "num_scores": NUM_FEATURES, "ending": None},
        ],
    }


def test_rates_that_fit_no_graph_are_named(tmp_path: Path) -> None:
    values = described("wave.xml", {**described("x.xml")["front_end"], "sample_rate": RATE * 2})
    with pytest.raises(GraphError, match=r"a window of 0\.5 s at 16,000 Hz has 8,000 samples"):
        convert_graph(save_wave_graph(tmp_path / "wave.xml"), values)
