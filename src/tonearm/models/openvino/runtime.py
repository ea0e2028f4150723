"""Forward passes in OpenVINO on processors, of a checkpoint that ``models.openvino.cache`` has converted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tonearm.models.features import RawWaveform, load_features
from tonearm.models.openvino.processor import compile_network
from tonearm.models.openvino.release_memory import drop_pages
from tonearm.models.window_scores import WindowScores

if TYPE_CHECKING:
    import openvino

    from tonearm.models.openvino.cache import Converted

# Seconds that each layout of streams is measured for. It is done once per checkpoint and machine.
TRY_S = 2.0


class OpenVinoRuntime:
    """One converted checkpoint; features stay in torch, on one thread.

    Args:
        precision: fp32, bf16 or int8. int8 computes what it did not quantize in bf16 where the processor has that.
        num_streams: passes at a time, each with its share of the threads; by default one pass with all threads.
        is_for_one_too: run a single window on all threads, in a second copy of the network; meant for small networks.
    """

    name, device = "openvino", "cpu"

    def __init__(
        self,
        converted: Converted,
        precision: str,
        *,
        num_threads: int,
        num_streams: int = 1,
        is_for_one_too: bool = False,
    ) -> None:
        # torch's threads would take cores from OpenVINO's, and features are only 1% of the work.
        torch.set_num_threads(1)
        self.precision, self.num_streams = precision, num_streams
        self.features = load_features(converted.features_path)
        self.features_s = 0.0
        network = converted.int8_path if precision == "int8" else converted.network_path
        self.weights = network.with_suffix(".bin")
        self.shape: tuple[int, ...] = ()
        self.compiled = compile_network(network, precision, num_threads=num_threads, num_streams=num_streams)
        self.requests = [self.compiled.create_infer_request() for _ in range(num_streams)]
        self.alone = self.requests[0]
        if is_for_one_too and num_streams > 1:
            self.alone = compile_network(network, precision, num_threads=num_threads).create_infer_request()
        drop_pages(self.weights)

    def run_all(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[WindowScores]:
        """Run batches in order."""
        return map(self.run, batches)

    def run(self, windows: NDArray[np.float32]) -> WindowScores:
        """Run one batch, spread over the streams."""
        started = time.perf_counter()
        inputs = network_inputs(self.features, windows)
        self.features_s += time.perf_counter() - started
        scores = self._infer(inputs)
        if inputs.shape != self.shape:
            # For a new shape OpenVINO reads the weights again to reorder them, which makes the file's pages resident.
            self.shape = inputs.shape
            drop_pages(self.weights)
        return scores

    def _infer(self, inputs: NDArray[np.float32]) -> WindowScores:
        if self.num_streams == 1 or len(inputs) == 1:
            self.alone.infer([inputs])
            return _outputs(self.alone)
        parts = [part for part in np.array_split(inputs, self.num_streams) if len(part)]
        requests = self.requests[: len(parts)]
        for request, part in zip(requests, parts, strict=True):
            request.start_async([np.ascontiguousarray(part)])
        for request in requests:
            request.wait()
        outputs = [_outputs(request) for request in requests]
        return WindowScores(
            np.concatenate([scores.logits for scores in outputs]),
            np.concatenate([scores.embedding for scores in outputs]),
        )


def network_inputs(features: nn.Module, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inputs of a network for these windows [B, S], made by its ``features``."""
    if isinstance(features, RawWaveform):
        return features.of_array(windows)
    made = []
    with torch.inference_mode():
        # One at a time: the spectra of one window fit the processor's cache. Four at once took 6.2 ms each, not 2.6.
        for window in torch.from_numpy(windows).split(1):
            (values,) = features(window).values()
            made.append(values.numpy())
    return np.concatenate(made) if len(made) > 1 else made[0]


def measure_streams(
    converted: Converted, precision: str, window: NDArray[np.float32], num_threads: int
) -> dict[str, float]:
    """Return windows per second of one pass with all threads and of one pass per thread, as ``{"1x2": 0.9, ...}``.

    The keys are passes at a time and threads per pass.
    """
    rates = {}
    for num_streams in sorted({1, num_threads}):
        runtime = OpenVinoRuntime(converted, precision, num_threads=num_threads, num_streams=num_streams)
        windows = np.repeat(window[None], num_streams, axis=0)
        runtime.run(windows)  # the first pass also compiles kernels for the shape
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < TRY_S or count < 2 * num_streams:
            runtime.run(windows)
            count += num_streams
        rates[f"{num_streams}x{num_threads // num_streams}"] = count / (time.perf_counter() - started)
    return rates


def _outputs(request: openvino.InferRequest) -> WindowScores:
    # Copied: the request's next pass writes over its tensors.
    return WindowScores(request.get_output_tensor(0).data.copy(), request.get_output_tensor(1).data.copy())
