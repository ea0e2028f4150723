"""Small graphs as a user's exporter would leave them, in OpenVINO's form, with ``tonearm.json`` beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from tonearm.models.exported import graph
from tonearm.models.exported.description import parse
from tonearm.models.exported.front_end import network_inputs, placed
from tonearm.models.exported.kept_graph import Facts
from tonearm.models.openvino.processor import core

ONNX = Path(__file__).parent / "data" / "tiny.onnx"
RATE, NUM_SAMPLES, NUM_FEATURES = 8000, 4000, 6
LABELS = ("quiet", "low", "high", "loud")
BINS, FRAMES = 40, 51
MEL = {"kind": "log-mel", "sample_rate": RATE, "n_fft": 256, "hop_length": 80, "num_mel_bins": BINS, "log_offset": 1e-6}
WAVEFORM = {"kind": "waveform", "sample_rate": RATE}


def weights(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def save_wave_graph(
    path: Path,
    *,
    shape: Sequence[int] = (1, NUM_SAMPLES),
    num_labels: int = len(LABELS),
    activation: str | None = None,
    is_fixed: bool = False,
    gain: float = 40.0,
) -> Path:
    """Save a graph over the loudness of six stretches of a window, ``features``; the scores are called ``scores``.

    Args:
        shape: of its input ``wave``; -1 for any size. All but the last axis go.
        activation: ``sigmoid`` or ``softmax``, which it then ends in.
        is_fixed: whether it takes one window at a time, whatever its input's shape says.
    """
    wave = ops.parameter(openvino.PartialShape(list(shape)), np.float32, name="wave")
    wave.output(0).set_names({"wave"})
    stretches = ops.reshape(
        wave, np.array([1 if is_fixed else -1, NUM_FEATURES - 2, NUM_SAMPLES // 4], np.int64), False
    )
    stretches.output(0).set_names({"stretches"})
    loudness = ops.reduce_mean(ops.abs(stretches), np.array([2]), False)  # [B, 4]
    peak = ops.reduce_max(ops.abs(stretches), np.array([1, 2]), False)
    both = ops.unsqueeze(peak, np.array([1]))
    features = ops.concat([loudness, both, ops.multiply(both, both)], 1)
    features.output(0).set_names({"features"})
    scores = ops.matmul(features, weights(NUM_FEATURES, num_labels) * np.float32(gain), False, False)
    scores = ops.add(scores, weights(1, num_labels, seed=1))
    if activation is not None:
        scores = ops.sigmoid(scores) if activation == "sigmoid" else ops.softmax(scores, 1)
    scores.output(0).set_names({"scores"})
    openvino.save_model(openvino.Model([scores, features], [wave], "wave"), path, compress_to_fp16=False)
    return path


def save_mel_graph(
    path: Path, *, shape: Sequence[int], mel_axis: int, num_labels: int = len(LABELS), num_inputs: int = 1
) -> Path:
    """Save a graph over the mean of each mel bin: its input is ``mel``, its output ``scores``."""
    mel = ops.parameter(openvino.PartialShape(list(shape)), np.float32, name="mel")
    mel.output(0).set_names({"mel"})
    others = [ops.parameter([1], np.float32, name=f"more {number}") for number in range(num_inputs - 1)]
    has_batch = len(shape) > 2
    axes = [axis for axis in range(len(shape)) if axis != mel_axis and not (axis == 0 and has_batch)]
    pooled = ops.reduce_mean(mel, np.array(axes), False)
    if not has_batch:
        pooled = ops.unsqueeze(pooled, np.array([0]))
    scores = ops.matmul(pooled, weights(BINS, num_labels) / np.float32(40), False, False)
    for other in others:
        scores = ops.add(scores, other)
    scores.output(0).set_names({"scores"})
    openvino.save_model(openvino.Model([scores], [mel, *others], "mel"), path, compress_to_fp16=False)
    return path


def described(file: str, front_end: Any = WAVEFORM, **changes: Any) -> dict[str, Any]:
    """Return the part ``model`` of ``tonearm.json``."""
    values = {"file": file, "front_end": front_end, "window_s": NUM_SAMPLES / RATE, "labels": list(LABELS)}
    return {**values, "activation": "sigmoid", **changes}


def save_described(folder: Path, *, activation: str | None = None, is_fixed: bool = False, **changes: Any) -> Path:
    """Save the graph of ``save_wave_graph`` with its description; return the folder, which is the model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_wave_graph(folder / "wave.xml", activation=activation, is_fixed=is_fixed)
    values = described("wave.xml", **{"activation": "none"} if activation is not None else {}, **changes)
    (folder / "tonearm.json").write_text(json.dumps({"schema": 1, "model": values}))
    return folder


def convert_graph(path: Path, values: dict[str, Any]) -> tuple[Facts, Path]:
    """Return what the graph is, with the network for many windows where its layout allows one."""
    out, description = path.parent / "made", parse(values)
    facts = graph.convert(path, description, out, 1)
    return (graph.batch(path, description, out, 1) if "batch" in facts.layout else facts), out


def noise_windows(count: int = 3) -> Any:
    """Return windows of noise [count, samples], each of another level."""
    levels = np.array([0.5, 0.05, 0.2, 0.9], np.float32)[:count, None]
    return np.random.default_rng(3).uniform(-1, 1, (count, NUM_SAMPLES)).astype(np.float32) * levels


def run_network(out: Path, values: dict[str, Any], facts: Facts, windows: Any) -> list[Any]:
    """Return what the converted network in ``out`` gives for windows: its scores, and its embedding if it has one."""
    compiled = core().compile_model(out / facts.network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = network_inputs(windows, parse(values), facts.layout, facts.num_frames)
    batches = [inputs] if facts.is_batched else np.split(inputs, len(inputs))
    outputs = [list(compiled([placed(batch, facts.layout)]).values()) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def expected_scores(windows: Any) -> tuple[Any, Any]:
    """Return scores and features of ``save_wave_graph``, from its definition."""
    loudness = np.abs(windows).reshape(len(windows), NUM_FEATURES - 2, -1).mean(axis=2)
    peak = np.abs(windows).max(axis=1, keepdims=True)
    features = np.concatenate([loudness, peak, peak**2], axis=1)
    return features @ (weights(NUM_FEATURES, len(LABELS)) * 40) + weights(1, len(LABELS), seed=1), features


def windows(count: int = 5, num_samples: int = NUM_SAMPLES) -> Any:
    """Return windows of noise [samples], each louder than the one before."""
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (count, num_samples)).astype(np.float32)
    return [row * np.float32(0.2 * (number + 1)) for number, row in enumerate(noise)]


def put_sidecar(folder: Path, **values: Any) -> Path:
    """Write ``tonearm.json`` into a folder; return the folder."""
    (folder / "tonearm.json").write_text(json.dumps(values))
    return folder
