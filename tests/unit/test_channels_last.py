"""Convolutions over time become images one pixel high, where that spares changes of layout, and compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

from tonearm import demo
from tonearm.models.openvino.channels_last import keep_channels_last
from tonearm.models.openvino.runtime import core

RNG = np.random.default_rng(7)


def values(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 0.3, shape).astype(np.float32)


def over_time(inputs: Any, weights: NDArray[np.float32], *, stride: int, padding: int = 0, dilation: int = 1) -> Any:
    return ops.convolution(inputs, weights, [stride], [padding], [padding], [dilation])


def encoder(num_groups: int | None) -> Any:
    """Two convolutions, the first with a bias and, given groups, a norm; an average over time behind them."""
    waveform = ops.parameter(openvino.PartialShape([-1, -1]), np.float32)
    node = over_time(ops.unsqueeze(waveform, np.int64(1)), values(8, 1, 10), stride=5)
    node = ops.add(node, values(1, 8, 1))
    if num_groups is not None:
        node = ops.group_normalization(node, values(8), values(8), num_groups, 1e-5)
    node = over_time(ops.gelu(node, "erf"), values(6, 8, 3), stride=2, padding=2, dilation=2)
    return openvino.Model([ops.reduce_mean(node, np.int64(2)), node], [waveform])


def kinds_and_ranks(network: Any) -> set[tuple[str, int]]:
    return {
        (node.get_type_name(), node.get_output_partial_shape(0).rank.get_length())
        for node in network.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "GroupNormalization", "MVN")
    }


def test_a_run_with_a_norm_of_each_channel_becomes_images_and_computes_the_same() -> None:
    network = encoder(num_groups=8)
    waveform = values(3, 4000)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    expected = core().compile_model(network, "CPU", settings)(waveform)
    assert keep_channels_last(network) == 1
    assert kinds_and_ranks(network) == {("Convolution", 4), ("MVN", 4)}
    found = core().compile_model(network, "CPU", settings)(waveform)
    for number in range(2):
        assert found[number].shape == expected[number].shape
        np.testing.assert_allclose(found[number], expected[number], atol=2e-5)


@pytest.mark.parametrize("num_groups", [None, 2, 1])
def test_other_runs_stay_as_they_are(num_groups: int | None) -> None:
    network = encoder(num_groups)
    before = kinds_and_ranks(network)
    assert keep_channels_last(network) == 0
    assert kinds_and_ranks(network) == before


def test_the_demo_model_changes_no_layout_between_its_convolutions() -> None:
    """What this is for: 2.2 of the 9.9 ms that 5 s took were reorders around the first norm."""
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core().compile_model(f"{demo.genre_model_path()}/openvino/network.xml", "CPU", settings)
    compiled.create_infer_request().infer([values(1, 16000)])
    images = [node for node in compiled.get_runtime_model().get_ops() if len(node.get_output_partial_shape(0)) == 4]
    assert [layer_type(node) for node in images].count("Convolution") == 5
    for node in images:
        readers = {layer_type(reader.get_node()) for reader in node.output(0).get_target_inputs()}
        # Of the waveform, one channel of it, another order is a copy of 64 KB.
        is_large = layer_type(node) == "Reorder" and node.get_output_shape(0)[1] > 1
        assert not (is_large and readers & {"Convolution", "MVN"}), node


def layer_type(node: Any) -> str:
    return str(node.get_rt_info()["layerType"].value)
