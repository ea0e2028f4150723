"""Which tensors of a graph are its scores and its embedding: by name, by place, or by the operations before them."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import openvino

from tonearm.errors import first_line
from tonearm.models.exported.description import Description
from tonearm.wording import counted

# Operations that do not change what the numbers mean: they are skipped on the way back from a graph's scores to the
# activation or the matrix product that made them.
PASSING = {"Convert", "Reshape", "Squeeze", "Unsqueeze", "FakeQuantize", "Transpose"}
ENDINGS = {"Sigmoid": "independent", "SoftMax": "exclusive", "Softmax": "exclusive"}
# What follows a matrix product and belongs to it.
BIASES = {"Add", "Subtract", "Multiply"}
# Constants of these types are shapes and indices, not weights.
NO_WEIGHTS = {"i32", "i64", "boolean"}
# How many outputs or inputs a message lists.
NAMED = 6


class GraphError(ValueError):
    """A graph that cannot be used as it is described; the message says what was got and expected."""


class OutputTensors(NamedTuple):
    """The tensors of a graph's scores and of its embedding, if it has one."""

    scores: openvino.Output
    embedding: openvino.Output | None

    def present(self) -> list[openvino.Output]:
        """Return those that there are, the scores first."""
        return [self.scores] if self.embedding is None else [self.scores, self.embedding]


def outputs_of(graph: openvino.Model, description: Description) -> OutputTensors:
    """Return which tensors of a graph are its outputs."""
    num_labels = len(description.labels)
    sources = [output.get_node().input_value(0) for output in graph.outputs]
    listed = ", ".join(f"{name_of(output)} {list(shape_of(output))}" for output in graph.outputs[:NAMED])
    if description.scores_output is not None:
        scores = _tensor(graph, description.scores_output, "scores_output", listed)
    elif len(sources) == 1:
        scores = sources[0]
    else:
        fitting = [source for source in sources if is_vector(source) and numbers_of(source) == num_labels]
        if len(fitting) != 1:
            raise GraphError(
                f"it has {counted(len(sources), 'output')} ({listed}), of which {len(fitting)} have as many numbers as "
                f"there are labels, {num_labels}; say which are the scores with scores_output"
            )
        scores = fitting[0]
    if not is_vector(scores) or numbers_of(scores) != num_labels:
        described_output = (
            f"{name_of(scores)} has the shape {list(shape_of(scores))}, {counted(numbers_of(scores), 'score')} a window"
        )
        raise GraphError(
            f"got {counted(num_labels, 'label')}, and its output {described_output}; expected one score for each label"
        )
    if description.embedding_output is None:
        return OutputTensors(scores, _before_last_product(scores))
    embedding = _tensor(graph, description.embedding_output, "embedding_output", listed)
    if not is_vector(embedding):
        raise GraphError(
            f"embedding_output {name_of(embedding)} has the shape {list(shape_of(embedding))}, expected one list of "
            "numbers for each window"
        )
    return OutputTensors(scores, embedding)


def _tensor(graph: openvino.Model, which: int | str, what: str, listed: str) -> openvino.Output:
    if isinstance(which, int):
        if not 0 <= which < len(graph.outputs):
            raise GraphError(f"{what} is {which}, expected 0 to {len(graph.outputs) - 1}; its outputs are {listed}")
        return graph.outputs[which].get_node().input_value(0)
    for output in graph.outputs:
        if which in output.get_names() or which == output.get_node().get_friendly_name():
            return output.get_node().input_value(0)
    for operation in graph.get_ordered_ops():
        for output in operation.outputs():
            if which in output.get_names() or which == operation.get_friendly_name():
                return output
    raise GraphError(f"{what} is {which!r}, which no tensor of it is called; its outputs are {listed}")


def _before_last_product(scores: openvino.Output) -> openvino.Output | None:
    """Return the input of the last matrix product, the embedding in most classifiers; None if it is no vector."""
    tensor = _back(scores, PASSING | BIASES | set(ENDINGS))
    operation = tensor.get_node()
    if operation.get_type_name() not in ("MatMul", "Convolution"):
        return None
    embedding = operation.input_value(0)
    # A product may take its weights first; then this input is not the embedding.
    if operation.get_type_name() == "MatMul" and embedding.get_node().get_type_name() == "Constant":
        return None
    return (
        embedding
        if is_vector(embedding) and numbers_of(embedding) > 1 and embedding.get_element_type().is_real()
        else None
    )


def ending_of(scores: openvino.Output) -> str | None:
    """Return the kind of the activation that the scores have been through already."""
    return ENDINGS.get(_back(scores, PASSING).get_node().get_type_name())


def _back(tensor: openvino.Output, through: set[str]) -> openvino.Output:
    while tensor.get_node().get_type_name() in through:
        inputs = [source.get_source_output() for source in tensor.get_node().inputs()]
        made = [source for source in inputs if not _is_constant(source)]
        if len(made) != 1:
            break
        tensor = made[0]
    return tensor


def _is_constant(tensor: openvino.Output) -> bool:
    """Return whether a tensor is made of constants alone, such as weights that are stored in eight bits."""
    waiting, seen = [tensor.get_node()], set()
    while waiting:
        node = waiting.pop()
        if node.get_type_name() == "Parameter":
            return False
        # A node may be reached in many ways; without this a deep graph would take exponential time.
        if node.get_friendly_name() not in seen:
            seen.add(node.get_friendly_name())
            waiting += [source.get_source_output().get_node() for source in node.inputs()]
    return True


def num_parameters(graph: openvino.Model) -> int:
    """Return how many numbers the graph holds, its weights above all."""
    return sum(
        int(np.prod(list(operation.get_output_shape(0))))
        for operation in graph.get_ordered_ops()
        if operation.get_type_name() == "Constant"
        and operation.get_output_element_type(0).get_type_name() not in NO_WEIGHTS
    )


def shape_of(tensor: openvino.Output) -> tuple[int, ...]:
    """Return the size of each axis.

    Raises:
        GraphError: one depends on what is in the window.
    """
    shape = tensor.get_partial_shape()
    if shape.is_dynamic:
        raise GraphError(
            f"its tensor {name_of(tensor)} has the shape {shape} whatever the window, expected a size that is fixed"
        )
    return tuple(tensor.get_shape())


def sizes_of(tensor: openvino.Output) -> list[int | None]:
    """Return the size of each axis, None for any."""
    return [axis.get_length() if axis.is_static else None for axis in tensor.get_partial_shape()]


def numbers_of(tensor: openvino.Output) -> int:
    """Return how many numbers a tensor has for a window; the batch may be of any size."""
    shape = tensor.get_partial_shape()
    fixed = [axis.get_length() for axis in shape if axis.is_static]
    return int(np.prod(fixed, dtype=np.int64))


def is_vector(tensor: openvino.Output) -> bool:
    """Return whether a tensor is one list of numbers, whatever axes of one it has besides."""
    return sum(size > 1 for size in shape_of(tensor)) <= 1


def name_of(tensor: openvino.Output) -> str:
    """Return what a tensor is called in the file, or what OpenVINO calls it."""
    names = tensor.get_names()
    return cast(str, min(names) if names else tensor.get_node().get_friendly_name())


def reason(error: RuntimeError) -> str:
    """Return the line of OpenVINO's message that says what is wrong; the others name places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("Please check that model format" in line for line in lines):
        return "no frontend knows what is in it"
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling[-1] if telling else first_line(error))[:200]
