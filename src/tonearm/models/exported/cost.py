"""What an exported graph costs: the multiply-adds of one window, counted from the shapes of its layers."""

from __future__ import annotations

import math

from tonearm.models.exported import reading
from tonearm.models.exported.description import Description
from tonearm.models.exported.front_end import network_inputs, noise, placed
from tonearm.models.openvino.processor import core

CONVOLUTIONS = {"Convolution": 1, "GroupConvolution": 2}


def multiply_adds(digest: str, description: Description) -> int:
    """Return the multiply-adds of one window in convolutions and products of matrices; nothing is computed.

    Args:
        digest: of ``reading.digest_of``; the graph has been read.

    Raises:
        CheckpointError: what was stored of it is gone.
    """
    facts, folder = reading.stored_graph(digest)
    inputs = network_inputs(noise(description)[:1], description, facts.layout, facts.num_frames)
    network = core().read_model(folder / facts.network)
    network.reshape(placed(inputs, facts.layout).shape)
    total = 0
    for layer in network.get_ops():
        kind = layer.get_type_name()
        if kind in CONVOLUTIONS:
            # Weights are [out, in, ...], of groups [groups, out, in, ...].
            taps = list(layer.input(1).get_shape())[CONVOLUTIONS[kind] :]
            total += math.prod(layer.output(0).get_shape()) * math.prod(taps)
        elif kind == "MatMul":
            first = list(layer.input(0).get_shape())
            depth = first[-2 if layer.get_attributes()["transpose_a"] and len(first) > 1 else -1]
            total += math.prod(layer.output(0).get_shape()) * depth
    return total
