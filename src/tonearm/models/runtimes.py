"""What runs a model's forward pass: OpenVINO on processors, torch on GPUs and for what OpenVINO cannot run.

A runtime turns windows into logits and embeddings. torch in fp32 is the reference that the others must equal. Choosing
one avoids loading torch and OpenVINO if possible, since both take seconds.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import SettingsError
from tonearm.models.window_scores import WindowScores

# Files that NVIDIA's kernel drivers create, on Linux and under WSL. Without any of them torch need not be asked.
GPU_TRACES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia/version")


class Runtime(Protocol):
    """Runs one model.

    ``run`` scores a batch of windows, float32 [B, S]; ``run_all`` does so for several batches in order. ``features_s``
    is the time spent so far on features, if they are apart from the forward pass.
    """

    name: str
    precision: str
    device: str
    features_s: float

    def run(self, windows: NDArray[np.float32]) -> WindowScores: ...

    def run_all(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[WindowScores]: ...


class RuntimeChoice(NamedTuple):
    """What runs a model, in which precision and where; none of it ``auto``."""

    runtime: str
    precision: str
    device: str


def choose(runtime: str, precision: str, device: str | None) -> RuntimeChoice:
    """Return what runs a model, with every ``auto`` settled.

    On CUDA ``auto`` is torch in fp16; on processors it is OpenVINO in fp32. ``Classifier.load`` still falls back to
    torch for a model that OpenVINO cannot run.

    Raises:
        SettingsError: a combination that does not exist.
    """
    device = device or ("cuda" if count_gpus() else "cpu")
    on_cpu = device == "cpu"
    has_openvino = importlib.util.find_spec("openvino") is not None
    if runtime == "auto":
        runtime = "openvino" if on_cpu and has_openvino and precision != "fp16" else "torch"
    if precision == "auto":
        # On processors the reference's own scores: bf16 and int8 are two to four times as fast but a little off, so a
        # person has to ask for them.
        precision = "fp32" if on_cpu else "fp16"
    if runtime == "openvino" and not has_openvino:
        raise SettingsError("got runtime openvino, but it is not installed; run pip install openvino")
    if on_cpu and precision == "fp16":
        raise no_fast_fp16("precision")
    if runtime == "openvino" and not on_cpu:
        raise SettingsError(f"got runtime openvino on {device}, expected a CPU; give runtime torch")
    if precision == "int8" and runtime != "openvino":
        instead = "runtime auto" if on_cpu else "precision fp16 or bf16"
        raise SettingsError(
            f"got precision int8 with {runtime} on {device}, expected OpenVINO on a CPU; give {instead}"
        )
    return RuntimeChoice(runtime, precision, device)


def no_fast_fp16(setting: str) -> SettingsError:
    """Return the error for fp16 on a processor, given by the setting ``setting``."""
    return SettingsError(f"got {setting} fp16 on a CPU, which has no fast fp16; give bf16 or fp32")


def count_gpus() -> int:
    """Return how many CUDA devices torch can use."""
    cuda = _cuda()
    return 0 if cuda is None else int(cuda.device_count())


def gpu_names() -> list[str]:
    """Return the names of the CUDA devices torch can use."""
    cuda = _cuda()
    return [] if cuda is None else [str(cuda.get_device_name(index)) for index in range(cuda.device_count())]


def _cuda() -> ModuleType | None:
    """Return ``torch.cuda`` where torch can use a device."""
    # Loading torch takes seconds, which a machine without a driver can save.
    if not any(Path(trace).exists() for trace in GPU_TRACES):
        return None
    import torch

    return torch.cuda if torch.cuda.is_available() else None


def usable_cores() -> int:
    """Return the cores this process may use."""
    # Fewer than the machine has in a container or under taskset; macOS and Windows cannot tell.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quiet() -> None:
    """Keep the libraries' own messages off the terminal."""
    os.environ.setdefault("OPENVINO_LOG_LEVEL", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
