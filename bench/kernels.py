"""Which kernels OpenVINO runs for a model on this processor, in fp32, bf16 and int8, by its own performance counters.

python -m bench.kernels MODEL                                a folder, hub id or name, as `--tag-model` takes it
python -m bench.kernels                                      AST with random weights
python -m bench.kernels MODEL --precision bf16 --top 30

Prints, for each precision, the processor time of one pass on one thread by kernel: what it computes (`MatMul`), which
implementation was chosen (`brgemm_avx512`) and in which precision (`BF16`), with its share of the whole. A bf16 that is
slow is then seen: products that run in a reference implementation or in f32, or Reorders between the two. int8 needs
`tonearm tag --precision int8` with the model once before, which calibrates it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openvino
from numpy.typing import NDArray

from bench import machine
from bench.checkpoints import save_ast
from tonearm.errors import TonearmError
from tonearm.models.checkpoint import CheckpointInfo, describe_checkpoint
from tonearm.models.exported import front_end, reading
from tonearm.models.features import load_features
from tonearm.models.openvino import select
from tonearm.models.openvino.processor import core, has_bf16
from tonearm.models.openvino.runtime import network_inputs
from tonearm.models.window_plan import plan_windows

PRECISIONS = ("fp32", "bf16", "int8")
PASSES, TOP, BATCH = 5, 12, 1


class Kernel(NamedTuple):
    """What one kind of node ran as; ``precision`` is how the implementation calls it, such as ``BF16`` or ``I8``."""

    operation: str
    implementation: str
    precision: str


@dataclasses.dataclass(frozen=True)
class Profile:
    """Seconds of one pass by kernel and, apart, its processor time."""

    seconds: dict[Kernel, float]
    num_nodes: dict[Kernel, int]
    pass_s: float

    @property
    def kernels_s(self) -> float:
        """The sum over all kernels."""
        return sum(self.seconds.values())

    def by_precision(self) -> dict[str, float]:
        """Return the share of each precision, the largest first."""
        shares: dict[str, float] = {}
        for kernel, seconds in self.seconds.items():
            shares[kernel.precision] = shares.get(kernel.precision, 0.0) + seconds / self.kernels_s
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


@dataclasses.dataclass(frozen=True)
class Node:
    """What OpenVINO's counters say of one node: names, and seconds of one pass."""

    operation: str
    executed_as: str
    seconds: float


def kernel_of(node: Node) -> Kernel:
    """Return the kernel of a node: ``brgemm_avx512_BF16`` is the implementation and the precision that it runs in."""
    implementation, _, precision = node.executed_as.rpartition("_")
    return Kernel(node.operation, implementation or precision, precision if implementation else "")


def profile_of(passes: Sequence[Sequence[Node]], pass_s: float) -> Profile:
    """Return the least seconds of each kernel over some passes of the same network: other programs only add to it."""
    sums: list[dict[Kernel, float]] = []
    counts: dict[Kernel, int] = {}
    for nodes in passes:
        totals: dict[Kernel, float] = {}
        counts = {}
        for node in nodes:
            kernel = kernel_of(node)
            totals[kernel] = totals.get(kernel, 0.0) + node.seconds
            counts[kernel] = counts.get(kernel, 0) + 1
        sums.append(totals)
    seconds = {kernel: min(totals[kernel] for totals in sums if kernel in totals) for kernel in counts}
    return Profile(dict(sorted(seconds.items(), key=lambda item: -item[1])), counts, pass_s)


def measure(network: Path, precision: str, inputs: NDArray[np.float32]) -> Profile:
    """Run a network some times on one thread and return what its kernels took."""
    hint = "f32" if precision == "fp32" or not has_bf16() else "bf16"
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERF_COUNT": True}
    request = core().compile_model(network, "CPU", settings).create_infer_request()
    request.infer([inputs])  # the first pass also makes kernels for the shape
    passes, times = [], []
    for _ in range(PASSES):
        started = time.process_time()
        request.infer([inputs])
        times.append(time.process_time() - started)
        passes.append(
            [
                Node(node.node_type, node.exec_type, node.real_time.total_seconds())
                for node in request.profiling_info
                if node.status != openvino.ProfilingInfo.Status.NOT_RUN
            ]
        )
    return profile_of(passes, min(times))


def networks_of(source: str, info: CheckpointInfo) -> tuple[dict[str, Path], NDArray[np.float32]]:
    """Return a model's networks by precision, converted now if necessary, and the inputs of one window of noise.

    Raises:
        SettingsError: OpenVINO cannot run the model.
    """
    window = np.random.default_rng(0).standard_normal((BATCH, plan_windows(info, None, None).window_samples))
    windows = (0.1 * window).astype(np.float32)
    if info.digest is not None and (graph := info.sidecar.model) is not None:
        facts, folder = reading.stored_graph(info.digest)
        inputs = front_end.network_inputs(windows, graph, facts.layout, facts.num_frames)
        return dict.fromkeys(("fp32", "bf16"), folder / facts.network), front_end.placed(inputs, facts.layout)
    request = select.Request(source, None, False, "openvino", "fp32", 1, windows.shape[1])
    converted, _ = select.convert(request, info)
    assert converted is not None  # "openvino" by name raises instead
    networks = {"fp32": converted.network_path, "bf16": converted.network_path}
    if converted.int8_path.is_file():
        networks["int8"] = converted.int8_path
    return networks, network_inputs(load_features(converted.features_path), windows)


def show(profiles: dict[str, Profile], top: int) -> str:
    """Return the tables: precisions first, then the kernels of each."""
    lines = ["| | a pass | of fp32 | kernels, by precision |", "|---|---:|---:|---|"]
    for name, profile in profiles.items():
        shares = ", ".join(f"{precision or 'none'} {share:.0%}" for precision, share in profile.by_precision().items())
        ratio = f"{profiles['fp32'].pass_s / profile.pass_s:.2f}×" if "fp32" in profiles else ""
        lines.append(f"| {name} | {1000 * profile.pass_s:.1f} ms | {ratio} | {shares} |")
    for name, profile in profiles.items():
        lines += ["", f"| {name}: operation | implementation | precision | nodes | ms | share |"]
        lines.append("|---|---|---|---:|---:|---:|")
        for kernel, seconds in list(profile.seconds.items())[:top]:
            lines.append(
                f"| {kernel.operation} | {kernel.implementation} | {kernel.precision} | {profile.num_nodes[kernel]} | "
                f"{1000 * seconds:.2f} | {seconds / profile.kernels_s:.1%} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Print the tables; return 2 where the model cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", help="by default AST with random weights")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="by default all of them")
    parser.add_argument("--top", type=int, default=TOP, help="so many kernels of each precision")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tonearm-kernels-") as folder:
        source = arguments.model or str(save_ast(Path(folder)))
        try:
            networks, inputs = networks_of(source, describe_checkpoint(source))
        except TonearmError as error:
            print(error, file=sys.stderr)
            return 2
        asked = arguments.precision or [name for name in PRECISIONS if name in networks]
        if missing := [name for name in asked if name not in networks]:
            print(
                f"got precision {missing[0]}, and {source} has no such network here; run "
                f"`tonearm tag LIBRARY --out RUN --precision {missing[0]}` with it once, or give another",
                file=sys.stderr,
            )
            return 2
        profiles = {name: measure(networks[name], name, inputs) for name in asked}
    print(f"Machine: {machine.describe()}\n\n{show(profiles, arguments.top)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
