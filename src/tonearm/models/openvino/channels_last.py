"""Convolutions of raw waveforms, rewritten so that OpenVINO keeps channels last from the first of them to the last.

wav2vec2, HuBERT and their kin begin with convolutions over time, the first followed by a group norm with a group for
each channel. OpenVINO's convolutions want channels last, and its group norm of [B, C, T] wants them first: on a small
HuBERT a quarter of the pass was putting its largest activations into one order and back. Of [B, C, 1, T], an image one
pixel high, it normalizes in either order, and takes the GELU behind it into the same loop. 5 s through the demo genre
model on one core: 9.8 ms before, 7.7 after.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from openvino import opset13 as ops

HEIGHT_AXIS = 2
OVER_TIME = 3  # dimensions of [B, C, T]


def keep_channels_last(network: Any) -> int:
    """Rewrite each run of convolutions over time with a group norm in it; what the network computes stays the same.

    Args:
        network: an ``openvino.Model``, changed in place.

    Returns:
        How many runs there were.
    """
    runs = [run for run in map(_run_from, network.get_ordered_ops()) if run]
    for run in runs:
        _rewrite(run)
    network.validate_nodes_and_infer_types()
    return len(runs)


def _run_from(start: Any) -> list[Any]:
    """Return the operations from a first convolution on that can be rewritten; none without a group norm among them."""
    if start.get_type_name() != "Convolution" or _is_rewritable(_before(start)):
        return []
    run, node = [], start
    while node is not None and _is_rewritable(node):
        run.append(node)
        readers = list(node.output(0).get_target_inputs())
        node = readers[0].get_node() if len(readers) == 1 else None
    return run if any(node.get_type_name() == "GroupNormalization" for node in run) else []


def _before(node: Any) -> Any:
    return node.input_value(0).get_node()


def _is_rewritable(node: Any) -> bool:
    kind, dimensions = node.get_type_name(), node.get_output_partial_shape(0).rank
    if dimensions.is_dynamic or dimensions.get_length() != OVER_TIME:
        return False
    if kind == "Gelu":
        return True
    constants = [node.input_value(index).get_node() for index in range(1, node.get_input_size())]
    if any(constant.get_type_name() != "Constant" for constant in constants):
        return False
    if kind == "GroupNormalization":
        return bool(node.get_attributes()["num_groups"] == constants[0].get_output_shape(0)[0])
    if kind == "Add":  # a bias
        return len(constants[0].get_output_shape(0)) == OVER_TIME
    return kind == "Convolution" and node.get_attributes()["auto_pad"] == "explicit"


def _rewrite(run: list[Any]) -> None:
    image = ops.unsqueeze(run[0].input_value(0), np.int64(HEIGHT_AXIS))
    for node in run:
        image = _of_image(node, image)
        image.set_friendly_name(node.get_friendly_name())
    readers = run[-1].output(0).get_target_inputs()
    after = ops.squeeze(image, np.int64(HEIGHT_AXIS)).output(0)
    for reader in readers:
        reader.replace_source_output(after)


def _of_image(node: Any, image: Any) -> Any:
    kind, attributes = node.get_type_name(), node.get_attributes()
    if kind == "Gelu":
        return ops.gelu(image, attributes["approximation_mode"].lower())
    values = [node.input_value(index).get_node().get_data() for index in range(1, node.get_input_size())]
    if kind == "GroupNormalization":
        scale, shift = (value.reshape(1, -1, 1, 1).copy() for value in values)
        normal = ops.mvn(image, np.array([2, 3], np.int64), True, attributes["epsilon"], "INSIDE_SQRT")
        return ops.add(ops.multiply(normal, scale), shift)
    constant = ops.constant(np.expand_dims(values[0], HEIGHT_AXIS).copy())
    if kind == "Add":
        return ops.add(image, constant)
    return ops.convolution(
        image,
        constant,
        strides=[1, *attributes["strides"]],
        pads_begin=[0, *attributes["pads_begin"]],
        pads_end=[0, *attributes["pads_end"]],
        dilations=[1, *attributes["dilations"]],
    )
