"""OpenVINO in this process, and what this processor can do; without torch, and OpenVINO only once it is asked."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

# Of what is made for one shape of input. Unbounded, as by default, each length of a short track would take megabytes
# for ever: 2.5 GB after 400 lengths on a small HuBERT. So many hold the few shapes that come again and again.
KEPT_KERNELS, KEPT_PRIMITIVES = 64, 128


@functools.cache
def core() -> openvino.Core:
    """Return this process's one ``openvino.Core``.

    Each has a stack of its own put under the thread's signal handlers, and takes it away when it goes, even from under
    another one's: after the first of two has gone, any signal that Python handles, Ctrl-C too, ends the process.
    """
    import openvino

    return openvino.Core()


@functools.cache
def has_bf16() -> bool:
    """Return whether this processor multiplies in bf16; elsewhere asking for it would silently change nothing."""
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
        is_pinned: whether its threads keep to cores, which all networks of a process would choose alike.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_PRIMITIVES))  # the library below has no other way
    # f32 must be asked for on processors with bf16, or bf16 is taken.
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
