"""OpenVINO in this process, and what this processor can do; loads no torch, and OpenVINO only when first used."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

# How many kernels OpenVINO, and how many primitives oneDNN below it, keep for the shapes of input that they have seen.
# By default they keep thousands, so short tracks of 400 lengths took 2.5 GB on a small HuBERT. These numbers hold the
# few shapes that come again and again (bench/NOTES.md, "Lengths").
KEPT_KERNELS, KEPT_PRIMITIVES = 64, 128


@functools.cache
def core() -> openvino.Core:
    """Return this process's only ``openvino.Core``, which is never released."""
    import openvino

    # Each core installs an alternate stack for signal handlers and unmaps it when it goes, even if another core has put
    # it back. After that any signal that Python handles, Ctrl-C too, is a segmentation fault (OpenVINO 2026.4).
    return openvino.Core()


@functools.cache
def has_bf16() -> bool:
    """Return whether this processor multiplies in bf16."""
    # Elsewhere OpenVINO would accept the hint and compute in fp32 without a word.
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def processor_name() -> str:
    """Return the processor's name, such as ``AMD EPYC 9B14``: what is measured on one says nothing of another."""
    return " ".join(str(core().get_property("CPU", "FULL_DEVICE_NAME")).split())


def compile_network(
    path: Path, precision: str, *, num_threads: int, num_streams: int = 1, is_pinned: bool = True
) -> openvino.CompiledModel:
    """Return a network compiled for this processor; the weights stay in the file's pages until they are repacked.

    Args:
        is_pinned: whether each thread stays on one core. Several networks in a process would choose the same cores.
    """
    # oneDNN, the library below OpenVINO, can be told in no other way.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_PRIMITIVES))
    # On processors with bf16 OpenVINO computes in bf16 unless it is asked for f32.
    hint = "f32" if precision == "fp32" or not has_bf16() else "bf16"
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": num_streams,
        "ENABLE_MMAP": True,
        "CPU_RUNTIME_CACHE_CAPACITY": KEPT_KERNELS,
        **({} if is_pinned else {"ENABLE_CPU_PINNING": False}),
    }
    return core().compile_model(path, "CPU", settings)
