"""What runs a model's forward pass: torch everywhere, OpenVINO on CPUs.

A runtime takes windows and gives logits and embeddings. torch in fp32 is the reference that the others must equal.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.errors import SettingsError

Scores = tuple[NDArray[np.float32], NDArray[np.float32]]


class Runtime(Protocol):
    """Runs one model. ``run`` takes float32 [B, S] and gives logits [B, labels] and embeddings [B, dim]."""

    name: str
    precision: str
    device: str

    def run(self, windows: NDArray[np.float32]) -> Scores: ...


class WithEmbedding(nn.Module):
    """A classifier that gives its embedding too: AST's [CLS], the others' mean hidden state before the projector."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._seen: list[Tensor] = []
        encoder = getattr(model, "audio_spectrogram_transformer", None)
        if encoder is not None:
            encoder.layernorm.register_forward_hook(lambda module, inputs, output: self._seen.append(output[:, 0]))
        else:
            model.projector.register_forward_pre_hook(lambda module, inputs: self._seen.append(inputs[0].mean(dim=1)))

    def forward(self, **features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, labels] and embedding [B, dim]."""
        self._seen.clear()
        logits = self.model(**features).logits
        return logits, self._seen.pop()


class _OneInput(nn.Module):
    """``WithEmbedding`` with its one input given by position, as tracing wants it."""

    def __init__(self, model: Any, input_name: str) -> None:
        super().__init__()
        self.inner, self.input_name = WithEmbedding(model), input_name

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(**{self.input_name: values})


class TorchRuntime:
    """Eager torch on the CPU or a CUDA device."""

    name = "torch"

    def __init__(self, model: nn.Module, features: nn.Module, precision: str, device: str) -> None:
        self.precision, self.device = precision, device
        self.model, self.features = WithEmbedding(model).to(device), features.to(device)
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    def run(self, windows: NDArray[np.float32]) -> Scores:
        """Run one batch."""
        with torch.inference_mode():
            inputs = self.features(torch.from_numpy(windows).to(self.device))
            with torch.autocast(self.device.split(":")[0], dtype=self.dtype, enabled=self.dtype is not None):
                logits, embedding = self.model(**inputs)
        return logits.float().cpu().numpy(), embedding.float().cpu().numpy()


class OpenVinoRuntime:
    """OpenVINO on the CPU; features stay in torch."""

    name, device = "openvino", "cpu"

    def __init__(self, model: nn.Module, features: nn.Module, precision: str, example_samples: int) -> None:
        import openvino

        self.precision, self.features = precision, features
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inputs = features(torch.randn(2, example_samples) * 0.1)
            (self.input_name,) = inputs
            converted = openvino.convert_model(
                _OneInput(model, self.input_name), example_input=(inputs[self.input_name],)
            )
        shape = openvino.PartialShape(list(inputs[self.input_name].shape))
        shape[0] = -1
        if len(shape) == 2:
            shape[1] = -1  # raw waveforms come in any length
        converted.reshape(shape)
        # A bf16 hint is a silent no-op on processors without bf16, and f32 must be asked for on those with it.
        hints = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision], "PERFORMANCE_HINT": "LATENCY"}
        self.compiled = openvino.Core().compile_model(
            converted, "CPU", {**hints, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        )

    def run(self, windows: NDArray[np.float32]) -> Scores:
        """Run one batch."""
        with torch.inference_mode():
            inputs = self.features(torch.from_numpy(windows))
        outputs = self.compiled([inputs[self.input_name].numpy()])
        return outputs[0], outputs[1]


def choose(runtime: str, precision: str, device: str | None) -> tuple[str, str, str]:
    """Return ``(runtime, precision, device)`` with every ``auto`` settled.

    On CUDA: torch in fp16. On the CPU: torch in fp32, which is the reference; OpenVINO scores faster but takes half a
    minute and 2 GB more to start, so it has to be asked for.

    Raises:
        SettingsError: a combination that does not exist.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = device == "cpu"
    if runtime == "auto":
        runtime = "torch"
    if precision == "auto":
        precision = "fp32" if on_cpu else "fp16"
    if runtime == "openvino" and importlib.util.find_spec("openvino") is None:
        raise SettingsError("got --runtime openvino, but it is not installed; run pip install 'tonearm[openvino]'")
    if precision == "int8":
        raise SettingsError("got --precision int8, which needs calibration and is not there yet; give fp32 or bf16")
    if on_cpu and precision == "fp16":
        raise SettingsError("got --precision fp16 on a CPU, which has no fast fp16; give bf16 or fp32")
    if runtime == "openvino" and not on_cpu:
        raise SettingsError(f"got --runtime openvino on {device}, expected a CPU; give --runtime torch")
    return runtime, precision, device


def quiet() -> None:
    """Keep the libraries' own remarks off the terminal."""
    os.environ.setdefault("OPENVINO_LOG_LEVEL", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
