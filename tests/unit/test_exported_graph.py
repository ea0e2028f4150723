"""Exported graphs, read and brought into one form in this process; ``test_exported_models`` has the child."""

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
    RATE,
    described,
    save_mel_graph,
    save_wave_graph,
    weights,
)
from tonearm.models.exported import graph
from tonearm.models.exported.description import parse
from tonearm.models.exported.front_end import network_inputs, placed
from tonearm.models.exported.kept_graph import Facts
from tonearm.models.exported.tensors import GraphError
from tonearm.models.openvino.processor import core

ONNX = Path(__file__).parents[1] / "data" / "tiny.onnx"


def convert(path: Path, values: dict[str, Any]) -> tuple[Facts, Path]:
    """Return what the graph is, with the network for many windows where its layout allows one."""
    out, description = path.parent / "made", parse(values)
    facts = graph.convert(path, description, out, 1)
    return (graph.batch(path, description, out, 1) if "batch" in facts.layout else facts), out


def noise(count: int = 3) -> Any:
    levels = np.array([0.5, 0.05, 0.2, 0.9], np.float32)[:count, None]
    return np.random.default_rng(3).uniform(-1, 1, (count, NUM_SAMPLES)).astype(np.float32) * levels


def run(out: Path, values: dict[str, Any], facts: Facts, windows: Any) -> list[Any]:
    compiled = core().compile_model(out / facts.network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = network_inputs(windows, parse(values), facts.layout, facts.num_frames)
    batches = [inputs] if facts.is_batched else np.split(inputs, len(inputs))
    found = [list(compiled([placed(batch, facts.layout)]).values()) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def expected(windows: Any) -> tuple[Any, Any]:
    """Return scores and features of ``save_wave_graph``, from its definition."""
    loudness = np.abs(windows).reshape(len(windows), NUM_FEATURES - 2, -1).mean(axis=2)
    peak = np.abs(windows).max(axis=1, keepdims=True)
    features = np.concatenate([loudness, peak, peak**2], axis=1)
    return features @ (weights(NUM_FEATURES, len(LABELS)) * 40) + weights(1, len(LABELS), seed=1), features


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
    facts, out = convert(save_wave_graph(tmp_path / "wave.xml", shape=shape), values)
    assert facts.layout == layout
    assert facts.is_batched == ("batch" in layout)
    assert facts.embedding_dim == NUM_FEATURES  # what the last product takes
    found = run(out, values, facts, noise())
    for each, wanted in zip(found, expected(noise()), strict=True):
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
    facts, out = convert(path, values)
    assert facts.layout == layout
    assert facts.num_frames == (FRAMES if shape[layout.index("frames")] == -1 else shape[layout.index("frames")])
    assert facts.is_batched == ("batch" in layout)
    spectrograms = network_inputs(noise(), parse(values), ("batch", "mel", "frames"), facts.num_frames)
    wanted = spectrograms.mean(axis=2) @ (weights(BINS, len(LABELS)) / 40)
    np.testing.assert_allclose(run(out, values, facts, noise())[0], wanted, rtol=1e-4, atol=1e-4)


def test_an_onnx_file_whose_batch_and_outputs_have_names(tmp_path: Path) -> None:
    path = tmp_path / ONNX.name
    path.write_bytes(ONNX.read_bytes())
    labels = ["a", "b", "c", "d", "e"]
    values = described(ONNX.name, MEL, labels=labels, activation="softmax", embedding_output="pooled")
    facts, out = convert(path, values)
    assert (facts.scores_name, facts.embedding_name, facts.embedding_dim) == ("scores", "pooled", BINS)
    assert facts.is_batched and not facts.multi_label and facts.num_parameters >= BINS * 5
    spectrograms = network_inputs(noise(), parse(values), ("batch", "mel", "frames"), FRAMES)
    pooled = spectrograms.mean(axis=2)
    scores, embedding = run(out, values, facts, noise())
    np.testing.assert_allclose(embedding, pooled, rtol=1e-4, atol=1e-4)
    product = np.random.default_rng(0).standard_normal((BINS, 5)).astype(np.float32) / 40  # as its maker says
    np.testing.assert_allclose(scores, pooled @ product, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", [1, "features"])
def test_outputs_are_named_or_counted(tmp_path: Path, which: int | str) -> None:
    values = described("wave.xml", scores_output=0, embedding_output=which)
    facts, out = convert(save_wave_graph(tmp_path / "wave.xml"), values)
    assert (facts.scores_name, facts.embedding_name) == ("scores", "features")
    np.testing.assert_allclose(run(out, values, facts, noise())[1], expected(noise())[1], rtol=1e-4, atol=1e-5)


def test_the_scores_are_their_own_embedding_where_there_is_no_other(tmp_path: Path) -> None:
    wave = ops.parameter([1, NUM_SAMPLES], np.float32)
    parts = ops.reshape(wave, np.array([-1, len(LABELS), NUM_SAMPLES // len(LABELS)], np.int64), False)
    scores = ops.reduce_max(parts, np.array([2]), False)
    openvino.save_model(openvino.Model([scores], [wave]), tmp_path / "wave.xml", compress_to_fp16=False)
    facts, out = convert(tmp_path / "wave.xml", described("wave.xml"))
    assert (facts.embedding_name, facts.embedding_dim) == (None, len(LABELS))
    assert len(run(out, described("wave.xml"), facts, noise())) == 1


@pytest.mark.parametrize(("ending", "is_multi"), [("sigmoid", True), ("softmax", False)])
def test_what_a_graph_ends_in_says_what_its_scores_are(tmp_path: Path, ending: str, is_multi: bool) -> None:
    path = save_wave_graph(tmp_path / "wave.xml", activation=ending)
    facts, _ = convert(path, described("wave.xml", activation="none"))
    assert facts.scores == ("independent" if is_multi else "exclusive")
    assert facts.multi_label is is_multi
    assert facts.embedding_dim == NUM_FEATURES
    assert not convert(path, described("wave.xml", activation="none", multi_label=False))[0].multi_label


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
        convert(path, {**described("wave.xml"), **changes})
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_an_activation_that_the_graph_ends_in_is_not_applied_again(tmp_path: Path) -> None:
    path = save_wave_graph(tmp_path / "wave.xml", activation="sigmoid")
    with pytest.raises(GraphError, match="activation is sigmoid, but the graph ends in a sigmoid already"):
        convert(path, described("wave.xml"))


def test_which_output_has_the_scores_must_be_clear(tmp_path: Path) -> None:
    labels = [f"label {number}" for number in range(7)]
    with pytest.raises(GraphError, match=r"it has 2 outputs \(scores \[1, 4\], features \[1, 6\]\), of which 0 have"):
        convert(save_wave_graph(tmp_path / "wave.xml"), described("wave.xml", labels=labels))


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    path = save_mel_graph(tmp_path / "mel.xml", shape=(1, BINS, FRAMES), mel_axis=1, num_inputs=3)
    with pytest.raises(GraphError, match=r"it has 3 inputs \(mel, more 0, more 1\), expected one"):
        convert(path, described("mel.xml", MEL))


def test_axes_of_any_size_that_the_description_does_not_settle_are_refused(tmp_path: Path) -> None:
    path = save_mel_graph(tmp_path / "mel.xml", shape=(-1, -1, -1), mel_axis=1)
    with pytest.raises(GraphError, match=r"has the shape \[\?, \?, \?\], which may be batch, mel, frames"):
        convert(path, described("mel.xml", MEL))
    facts, _ = convert(path, described("mel.xml", MEL, layout=["batch", "mel", "frames"]))
    assert (facts.layout, facts.num_frames, facts.is_batched) == (("batch", "mel", "frames"), FRAMES, True)


def test_an_output_whose_size_depends_on_the_sound_is_refused(tmp_path: Path) -> None:
    wave = ops.parameter([1, NUM_SAMPLES], np.float32)
    loud = ops.non_zero(ops.greater(wave, np.float32(0.1)))
    scores = ops.convert(loud, "f32")
    openvino.save_model(openvino.Model([scores], [wave]), tmp_path / "wave.xml", compress_to_fp16=False)
    with pytest.raises(GraphError, match="whatever the window, expected a size that is fixed"):
        convert(tmp_path / "wave.xml", described("wave.xml"))


def test_inputs_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    wave = ops.parameter([1, NUM_SAMPLES], np.int16, name="wave")
    scores = ops.reduce_mean(ops.convert(wave, "f32"), np.array([1]), True)
    openvino.save_model(openvino.Model([scores], [wave]), tmp_path / "wave.xml")
    with pytest.raises(GraphError, match="takes i16, expected float32"):
        convert(tmp_path / "wave.xml", described("wave.xml"))


def test_scores_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    wave = ops.parameter([1, NUM_SAMPLES], np.float32)
    zero = ops.subtract(wave, wave)
    scores = ops.reduce_mean(ops.divide(zero, zero), np.array([1]), True)
    openvino.save_model(openvino.Model([scores], [wave]), tmp_path / "wave.xml", compress_to_fp16=False)
    with pytest.raises(GraphError, match="says what is not a number of a window of noise"):
        convert(tmp_path / "wave.xml", described("wave.xml", labels=["one"]))


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


def test_facts_are_read_as_they_were_written_and_other_formats_are_not(tmp_path: Path) -> None:
    facts, out = convert(save_wave_graph(tmp_path / "wave.xml"), described("wave.xml"))
    assert Facts.read(out) == facts
    text = (out / "facts.json").read_text()
    (out / "facts.json").write_text(text.replace('"format": 1', '"format": 0'))
    assert Facts.read(out) is None
    (out / "facts.json").write_text(text[:40])
    assert Facts.read(out) is None
    (out / "facts.json").write_text(text)
    assert Facts.read(out) == facts
    (out / "answers.npy").unlink()
    assert Facts.read(out) is None


def test_rates_that_fit_no_graph_are_named(tmp_path: Path) -> None:
    values = described("wave.xml", {**described("x.xml")["front_end"], "sample_rate": RATE * 2})
    with pytest.raises(GraphError, match=r"a window of 0\.5 s at 16,000 Hz has 8,000 samples"):
        convert(save_wave_graph(tmp_path / "wave.xml"), values)
