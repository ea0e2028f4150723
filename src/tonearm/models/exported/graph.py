"""An exported graph, read by OpenVINO and converted to a common form: scores and an embedding for each window.

This runs in a child process (``graph_child``), because a stranger's file may crash its reader. It loads neither torch
nor transformers.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino
from numpy.typing import NDArray

from tonearm.models.exported.description import Description, LogMelFrontEnd, check_layout
from tonearm.models.exported.front_end import network_inputs, noise, placed
from tonearm.models.exported.kept_graph import ANSWERS, Facts, GraphOutputs
from tonearm.models.exported.tensors import (
    NAMED,
    GraphError,
    ending_of,
    name_of,
    num_parameters,
    numbers_of,
    outputs_of,
    reason,
    sizes_of,
)
from tonearm.models.openvino.processor import compile_network, core
from tonearm.wording import counted

Floats = NDArray[np.float32]
# Largest difference of scores of several windows from those of each alone, and of a probability beyond 0 and 1.
TOLERANCE = 1e-3
# A spectrogram may have so many frames more than the graph takes: one half padding, one not whole.
MOST_CUT_FRAMES = 2


def convert(path: Path, description: Description, out: Path, num_threads: int) -> Facts:
    """Write the network and the facts of an exported graph to the folder ``out``.

    Raises:
        GraphError: it cannot be read, or is not what the description says.
    """
    graph = _read(path)
    layout, num_frames = _input(graph, description)
    sizes = _sizes(description, num_frames)
    source = graph.inputs[0]
    shape = [sizes[axis] for axis in layout]
    try:
        graph.reshape({source: openvino.PartialShape(shape)})
    except RuntimeError as error:
        raise GraphError(f"its input {name_of(source)} does not take the shape {shape}: {reason(error)}") from None
    outputs = outputs_of(graph, description)
    scores, embedding = outputs
    facts = Facts(
        layout,
        num_frames,
        False,
        "logits",
        False,
        numbers_of(outputs.present()[-1]),
        num_parameters(graph),
        name_of(scores),
        None if embedding is None else name_of(embedding),
        importlib.metadata.version("openvino"),
    )
    tensors = [_flat(tensor, is_batched=False) for tensor in outputs.present()]
    network = openvino.Model(tensors, graph.get_parameters())
    out.mkdir(parents=True, exist_ok=True)
    openvino.save_model(network, out / facts.network, compress_to_fp16=False)
    scored = _run(out / facts.network, description, facts, num_threads).scores
    facts = _with_activation(facts, description, scored, ending_of(scores))
    np.save(out / ANSWERS, scored)
    facts.write(out)
    return facts


def batch(path: Path, description: Description, out: Path, num_threads: int) -> Facts:
    """Add a network for any number of windows to what ``convert`` has made, if it gives the same scores.

    Call it in another process than ``convert``: a pass that fails may leave OpenVINO in a state in which the next pass,
    of any graph, ends the process (bench/NOTES.md).

    Raises:
        GraphError: the graph takes one window at a time.
    """
    facts = Facts.read(out)
    assert facts is not None
    # The reference, before anything can fail.
    alone = _run(out / facts.network, description, facts, num_threads)
    batched = dataclasses.replace(facts, is_batched=True)
    graph, sizes = _read(path), _sizes(description, facts.num_frames)
    taken = graph.inputs[0]
    try:
        # First for one window: with an open batch the shapes by which scores are recognized would be unknown.
        graph.reshape({taken: openvino.PartialShape([sizes[axis] for axis in facts.layout])})
        outputs = outputs_of(graph, description).present()
        shape = [-1 if axis == "batch" else sizes[axis] for axis in facts.layout]
        graph.reshape({taken: openvino.PartialShape(shape)})
        tensors = [_flat(tensor, is_batched=True) for tensor in outputs]
        network = openvino.Model(tensors, graph.get_parameters())
        openvino.save_model(network, out / batched.network, compress_to_fp16=False)
        together = _run(out / batched.network, description, batched, num_threads)
    except (RuntimeError, ValueError) as error:
        raise GraphError(f"it takes one window at a time ({error!r:.100})") from None
    for values, expected in zip(together, alone, strict=True):
        if values.shape != expected.shape or not np.allclose(values, expected, TOLERANCE, TOLERANCE):
            raise GraphError("it takes one window at a time: of several it says something else")
    batched.write(out)
    return batched


def inspect(path: Path) -> dict[str, Any]:
    """Return what a graph takes and gives, before anything is said of it.

    ``input`` has ``name`` and ``shape`` (None for any size); each of ``outputs`` has ``name``, ``num_scores`` and
    ``ending``: ``independent``, ``exclusive`` or None, as the activation that it ends in makes its scores.

    Raises:
        GraphError: it cannot be read, or does not take one input of float32.
    """
    graph = _read(path)
    taken = graph.inputs[0]
    sources = [output.get_node().input_value(0) for output in graph.outputs]
    return {
        "input": {"name": name_of(taken), "shape": sizes_of(taken)},
        "outputs": [
            {"name": name_of(source), "num_scores": numbers_of(source), "ending": ending_of(source)}
            for source in sources
        ],
    }


def _read(path: Path) -> openvino.Model:
    try:
        graph = core().read_model(path)
    except RuntimeError as error:
        raise GraphError(
            f"OpenVINO cannot read it ({reason(error)}); the file is damaged, or not what its name says"
        ) from None
    if len(graph.inputs) != 1:
        names = ", ".join(name_of(source) for source in graph.inputs[:NAMED]) or "none"
        raise GraphError(f"it has {counted(len(graph.inputs), 'input')} ({names}), expected one: the window")
    if graph.get_variables():
        raise GraphError("it keeps a state from one pass to the next, expected a graph without one")
    kind = graph.inputs[0].get_element_type().get_type_name()
    if kind not in ("f32", "f16"):
        raise GraphError(
            f"its input {name_of(graph.inputs[0])} takes {kind}, expected float32; export it with float inputs"
        )
    return graph


class _Input(NamedTuple):
    """The axes of a graph's input, and how many frames it takes of a spectrogram."""

    layout: tuple[str, ...]
    num_frames: int | None


def _input(graph: openvino.Model, description: Description) -> _Input:
    """Return what the graph takes."""
    source = graph.inputs[0]
    shape = sizes_of(source)
    described_input = (
        f"its input {name_of(source)} has the shape [{', '.join('?' if n is None else str(n) for n in shape)}]"
    )
    layouts = [description.layout] if description.layout is not None else _layouts(description.axes, len(shape))
    fitting = [layout for layout in layouts if _fits(layout, shape, description)]
    if len(fitting) == 1:
        frames = dict(zip(fitting[0], shape, strict=True)).get("frames")
        return _Input(fitting[0], frames or _sizes(description, None).get("frames"))
    if fitting:
        choices = "; or ".join(", ".join(layout) for layout in fitting[:3])
        raise GraphError(f"{described_input}, which may be {choices}; say which with layout")
    raise GraphError(f"{described_input}, which does not fit its front end: {_expected(description)}")


def _layouts(axes: Sequence[str], rank: int) -> list[tuple[str, ...]]:
    """Return the layouts of so many axes, a batch first where there is one."""
    layouts = []
    for layout in itertools.permutations(axes, rank):
        try:
            check_layout(layout, tuple(axes))
        except ValueError:
            continue
        # An axis of one in the first place is the batch; only a layout that is given says otherwise.
        if layout[0] == "batch" or not {"batch", "channel"} & set(layout):
            layouts.append(layout)
    return layouts


def _fits(layout: Sequence[str], shape: Sequence[int | None], description: Description) -> bool:
    if len(layout) != len(shape):
        return False
    sizes = _sizes(description, None)
    for axis, size in zip(layout, shape, strict=True):
        most_cut = MOST_CUT_FRAMES if axis == "frames" else 0
        if size is None and axis == "channel" and description.layout is None:
            return False  # an axis of unknown size might be anything, so only a given layout calls it a channel
        if size is not None and not sizes[axis] - most_cut <= size <= sizes[axis]:
            return False
    return True


def _sizes(description: Description, num_frames: int | None) -> dict[str, int]:
    """Return the size of each axis for one window."""
    front_end = description.front_end
    if isinstance(front_end, LogMelFrontEnd):
        given = front_end.num_frames(description.window_samples)
        return {"batch": 1, "channel": 1, "mel": front_end.num_mel_bins, "frames": num_frames or given}
    return {"batch": 1, "channel": 1, "samples": description.window_samples}


def _expected(description: Description) -> str:
    sizes, rate = _sizes(description, None), f"{description.sample_rate:,} Hz"
    window = f"a window of {description.window_s:g} s at {rate}"
    layout = f" in the layout {', '.join(description.layout)}" if description.layout else ""
    if "samples" in sizes:
        return f"{window} has {counted(sizes['samples'], 'sample')}{layout}"
    return f"{window} gives {sizes['mel']} mel bins and {counted(sizes['frames'], 'frame')}{layout}"


def _with_activation(facts: Facts, description: Description, scores: Floats, ending: str | None) -> Facts:
    """Return the facts with what the scores are; refuse a description that says otherwise."""
    if not np.isfinite(scores).all():
        raise GraphError("it says what is not a number of a window of noise")
    if description.activation != "none":
        if ending is not None:
            applied = "sigmoid" if ending == "independent" else "softmax"
            raise GraphError(
                f"activation is {description.activation}, but the graph ends in a {applied} already; give "
                "activation none"
            )
        is_multi = description.activation == "sigmoid" if description.multi_label is None else description.multi_label
        return dataclasses.replace(facts, scores="logits", multi_label=is_multi)
    if scores.min() < -TOLERANCE or scores.max() > 1 + TOLERANCE:
        raise GraphError(
            f"activation is none, but its scores of noise go from {scores.min():.3g} to {scores.max():.3g}, expected 0 "
            "to 1; give activation sigmoid (independent labels) or softmax (one label)"
        )
    # No activation is recognized in the graph, so the numbers must tell: exclusive scores of a window sum to one.
    sums_to_one = bool(np.abs(scores.sum(axis=1) - 1).max() < TOLERANCE)
    ending = ending or ("exclusive" if sums_to_one else "independent")
    is_multi = ending == "independent" if description.multi_label is None else description.multi_label
    return dataclasses.replace(facts, scores=ending, multi_label=is_multi)


def _flat(tensor: openvino.Output, *, is_batched: bool) -> openvino.Output:
    """Return a tensor as float32 [windows, numbers]."""
    opset = openvino.opset13
    shape = np.array([-1 if is_batched else 1, numbers_of(tensor)], np.int64)
    return opset.convert(opset.reshape(tensor, opset.constant(shape), special_zero=False), "f32").output(0)


def _run(network: Path, description: Description, facts: Facts, num_threads: int) -> GraphOutputs:
    """Return what it says of three windows of noise, in one pass if it is batched: [3, labels] and [3, dim]."""
    request = compile_network(network, "fp32", num_threads=num_threads).create_infer_request()
    inputs = network_inputs(noise(description), description, facts.layout, facts.num_frames)
    batches = [inputs] if facts.is_batched else np.split(inputs, len(inputs))
    outputs = []
    for batch in batches:
        request.infer([placed(batch, facts.layout)])
        outputs.append(GraphOutputs.of(request))
    return GraphOutputs.joined(outputs)
