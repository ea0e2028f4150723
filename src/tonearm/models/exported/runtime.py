"""Forward passes of exported graphs, in OpenVINO on processors, with the networks that ``reading`` has cached."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import CheckpointError, SettingsError
from tonearm.models.exported import reading
from tonearm.models.exported.description import Description
from tonearm.models.exported.front_end import network_inputs, noise, placed
from tonearm.models.exported.kept_graph import ANSWERS, Facts, GraphOutputs
from tonearm.models.openvino.processor import compile_network, has_bf16
from tonearm.models.openvino.release_memory import drop_pages
from tonearm.models.window_scores import WindowScores

if TYPE_CHECKING:
    import openvino

Floats = NDArray[np.float32]
# Heads take logits from every model, so scores are turned back into logits; 0 and 1 have none that is finite.
LEAST_SCORE = 1e-7
# Largest difference between a network's scores of the same window now and when it was read.
TOLERANCE = 1e-2
# A wrong network is compiled again this often; about one in five is wrong.
COMPILED_AGAIN = 3
# Each network holds its own copy of the weights. So a graph below this size gets one network per thread, at most
# ``MOST_APART``, and a larger one gets a single network with all threads.
SMALL_PARAMETERS, MOST_APART = 10_000_000, 8


class SettledPrecision(NamedTuple):
    """The precision that a model runs in; ``note`` says why, where it is not the requested one."""

    precision: str
    note: str = ""


def settle(runtime: str, precision: str, name: str) -> SettledPrecision:
    """Return the precision that an exported graph runs in.

    Args:
        name: what messages call the model.

    Raises:
        SettingsError: torch was asked for.
    """
    if runtime == "torch":
        raise SettingsError(
            f"got runtime torch, and {name} is an exported graph, which OpenVINO runs; give runtime auto"
        )
    if precision == "bf16":
        return SettledPrecision("bf16") if has_bf16() else SettledPrecision("fp32", "this processor has no bf16")
    if precision in ("int8", "fp16"):
        why = f"not {precision}: {name} is an exported graph, whose weights stay as they are stored"
        return SettledPrecision("fp32", why)
    return SettledPrecision("fp32")


class ExportedRuntime:
    """One exported graph.

    Args:
        digest: see ``reading.digest_of``; the graph must have been read.
        precision: fp32 or bf16.
        is_multi: whether the head reads the labels independently, or as shares of one.
        is_server: whether single windows come as well as many at a time.
    """

    name, device = "openvino", "cpu"

    def __init__(
        self,
        digest: str,
        description: Description,
        precision: str,
        *,
        num_threads: int,
        is_multi: bool,
        is_server: bool = False,
    ) -> None:
        self.precision, self.description, self.is_multi = precision, description, is_multi
        self.facts, folder = reading.stored_graph(digest)
        self.features_s = 0.0
        self.folder, self.network = folder, folder / self.facts.network
        # One pass per thread: the layers of a small graph are too little work to share among threads.
        count = min(num_threads, MOST_APART) if self.facts.num_parameters < SMALL_PARAMETERS else 1
        self.requests = [self._request(num_threads // count) for _ in range(count)]
        self.alone = self._request(num_threads) if is_server and count > 1 else self.requests[0]
        drop_pages(self.network.with_suffix(".bin"))

    def _request(self, num_threads: int) -> openvino.InferRequest:
        """Return a request on a newly compiled network that gives the scores that the graph gave when it was read."""
        # Not several streams of one network: if weights are stored in eight bits, OpenVINO 2026.4 compiles about one in
        # five such networks so that its scores are wrong, without an error (bench/NOTES.md, "several streams").
        first = noise(self.description)[:1]
        inputs = network_inputs(first, self.description, self.facts.layout, self.facts.num_frames)
        expected = np.load(self.folder / ANSWERS)[:1]
        for _ in range(COMPILED_AGAIN):
            # Not pinned: all networks of the process would choose the same cores.
            compiled = compile_network(self.network, self.precision, num_threads=num_threads, is_pinned=False)
            request = compiled.create_infer_request()
            scores = self._infer([request], [inputs]).scores
            if self.precision != "fp32" or np.allclose(scores, expected, TOLERANCE, TOLERANCE):
                return request
        raise CheckpointError(
            f"OpenVINO runs {self.description.file} otherwise here than when it was read; delete {self.folder}"
        )

    def run_all(self, batches: Iterable[Floats]) -> Iterator[WindowScores]:
        """Run batches in order."""
        return map(self.run, batches)

    def run(self, windows: Floats) -> WindowScores:
        """Run one batch of windows [B, S], no longer than the graph's own."""
        started = time.perf_counter()
        inputs = network_inputs(windows, self.description, self.facts.layout, self.facts.num_frames)
        self.features_s += time.perf_counter() - started
        if len(inputs) == 1:
            outputs = self._infer([self.alone], [inputs])
        elif self.facts.is_batched:
            parts = [part for part in np.array_split(inputs, len(self.requests)) if len(part)]
            outputs = self._infer(self.requests, parts)
        else:
            ones, count = np.split(inputs, len(inputs)), len(self.requests)
            starts = range(0, len(ones), count)
            outputs = GraphOutputs.joined(self._infer(self.requests, ones[first : first + count]) for first in starts)
        return WindowScores(to_logits(outputs.scores, self.facts, is_multi=self.is_multi), outputs.embedding)

    def _infer(self, requests: list[openvino.InferRequest], parts: list[Floats]) -> GraphOutputs:
        """Run at most as many parts as there are requests, side by side."""
        busy = requests[: len(parts)]
        for request, part in zip(busy, parts, strict=True):
            request.start_async([placed(part, self.facts.layout)])
        for request in busy:
            request.wait()
        return GraphOutputs.joined(map(GraphOutputs.of, busy))


def to_logits(scores: Floats, facts: Facts, *, is_multi: bool) -> Floats:
    """Return logits [B, labels] of which the head's activation gives the graph's scores again."""
    if facts.scores == "logits":
        return scores
    clipped = np.clip(scores.astype(np.float64), LEAST_SCORE, 1 - LEAST_SCORE)
    if facts.scores == "exclusive" and not is_multi:
        # softmax(log(p)) is p, since the scores of a window sum to one.
        return np.log(clipped).astype(np.float32)
    # The inverse of the sigmoid.
    return (np.log(clipped) - np.log1p(-clipped)).astype(np.float32)
