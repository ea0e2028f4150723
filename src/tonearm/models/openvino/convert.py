"""The process that converts a checkpoint for ``models.openvino.cache``.

python -m tonearm.models.openvino.convert < MESSAGE    does what ``models.openvino.cache`` asks for
python -m tonearm.models.openvino.convert FOLDER...    puts the converted form into the folders themselves
"""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.extras import install_command
from tonearm.models.checkpoint import describe_checkpoint, load_model
from tonearm.models.families import family_of
from tonearm.models.features import EQUALS, Features, load_features, save_features
from tonearm.models.openvino.cache import FORMAT, Converted, Int8Check, bundle_with_model
from tonearm.models.openvino.processor import core
from tonearm.models.openvino.rates import measure_here
from tonearm.models.openvino.release_memory import trim
from tonearm.models.openvino.runtime import OpenVinoRuntime, network_inputs
from tonearm.models.pooling import sigmoid
from tonearm.models.torch_runtime import Outputs, WithEmbedding
from tonearm.models.window_scores import WindowScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Seconds of the noise that is traced, and of a second check: waveforms come in any length, and a trace could have fixed
# the first one.
TRACED_S, CHECKED_S = 1.0, 1.7
# Largest difference of the converted network's outputs from torch's, relative to their size.
TOLERANCE = 1e-3

# SmoothQuant's balance between activations and weights (arXiv:2211.10438). With NNCF's default of 0.95 scores moved
# three times as far: 0.057 instead of 0.018 (bench/NOTES.md, "int8").
SMOOTHING = 0.5


class _OneInput(nn.Module):
    """``WithEmbedding`` with its only input by position, because tracing passes no keywords."""

    def __init__(self, model: PreTrainedModel, input_name: str) -> None:
        super().__init__()
        self.inner, self.input_name = WithEmbedding(model), input_name

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        # Tracing takes no named tuples.
        return tuple(self.inner(**{self.input_name: values}))


def main() -> None:
    """Convert the folders in the arguments, or do the task in the message on the standard input."""
    if sys.argv[1:]:
        for folder in sys.argv[1:]:
            bundle_with_model(Path(folder), describe_checkpoint(folder).revision)
        return
    message = json.loads(sys.stdin.read())
    torch.set_num_threads(message["num_threads"])
    warnings.simplefilter("ignore")
    if message["task"] == "convert":
        _convert(message)
    elif message["task"] == "measure":
        what = (message["precision"], message["window_samples"], message["num_threads"])
        print(json.dumps(measure_here(Converted(Path(message["folder"])), *what)))
    else:
        _quantize(message)


def _convert(message: dict[str, Any]) -> None:
    source, revision, folder = message["source"], message["revision"], Path(message["folder"])
    model, extractor = load_model(source, revision=revision, allow_pickle=message["allow_pickle"])
    info = describe_checkpoint(source, revision=revision)
    features = family_of(info.family).features(extractor)
    if not isinstance(features, Features) or type(features) not in EQUALS.values():
        raise SystemExit(f"the features of a {info.family} model are transformers' own, which stay with torch")
    folder.mkdir(parents=True)
    checked = [_noise(round(length_s * info.sample_rate)) for length_s in (TRACED_S, CHECKED_S)]
    with torch.no_grad():
        expected = [WithEmbedding(model)(**features(windows)) for windows in checked]
        ((name, example),) = features(checked[0]).items()
        network = openvino.convert_model(_OneInput(model, name), example_input=(example,))
        # Any number of windows, and any length unless the features pad windows to one length.
        free = (0, features.length_axis)
        network.reshape(openvino.PartialShape([-1 if axis in free else n for axis, n in enumerate(example.shape)]))
        # By default OpenVINO stores weights in fp16; the fp32 network is to give torch's scores.
        openvino.save_model(network, folder / "network.xml", compress_to_fp16=False)
    save_features(features, folder / "features.safetensors")
    # Tracing's copies of the weights beside the runtime's took 2.2 GB for AST, too much for a small machine.
    del model, network
    trim()
    runtime = OpenVinoRuntime(Converted(folder), "fp32", num_threads=message["num_threads"])
    for windows, scores in zip(checked, expected, strict=True):
        _check(runtime.run(windows.numpy()), scores)
    described = dataclasses.asdict(info)
    # These depend on where the model lies and on ``tonearm.json``, not on the weights that the cache goes by.
    for decided_elsewhere in ("name", "revision", "sidecar"):
        del described[decided_elsewhere]
    facts = {"format": FORMAT, "checkpoint": message["checkpoint"], "info": described}
    facts["made_with"] = {"openvino": openvino.__version__, "torch": torch.__version__}
    (folder / "facts.json").write_text(json.dumps(facts, indent=1))


def _noise(num_samples: int) -> Tensor:
    return torch.randn(1, num_samples, generator=torch.Generator().manual_seed(0)) * 0.1


def _check(scores: WindowScores, expected: Outputs) -> None:
    pairs = (scores.logits, expected.logits), (scores.embedding, expected.embedding)
    for values, reference in pairs:
        difference = float(np.abs(values - reference.numpy()).max())
        if not difference <= TOLERANCE * max(1.0, float(reference.abs().max())):
            raise SystemExit(f"its scores differ from torch's by {difference:.2g}")


def _quantize(message: dict[str, Any]) -> None:
    try:
        import nncf
    except ImportError:
        raise SystemExit(f"int8 needs nncf; run {install_command('int8')}") from None

    making, converted = Path(message["making"]), Converted(Path(message["folder"]))
    windows: NDArray[np.float32] = np.load(making / "windows.npy", mmap_mode="r")
    features = load_features(converted.features_path)
    # Calibrate on at most a third, spread evenly, so that most windows are left for the check.
    chosen = np.zeros(len(windows), bool)
    chosen[np.linspace(0, len(windows) - 1, min(len(windows) // 3, message["num_calibrated"]), dtype=int)] = True
    calibration, checked = windows[chosen], windows[~chosen] if message["is_guarded"] else windows[:0]
    network = core().read_model(converted.network_path)
    quantized = nncf.quantize(
        network,
        nncf.Dataset([network_inputs(features, np.array(window[None])) for window in calibration]),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calibration),
        ignored_scope=nncf.IgnoredScope(names=_outermost(network)),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHING)
        ),
    )
    openvino.save_model(quantized, making / "int8.xml", compress_to_fp16=False)
    # Freed before the check, which loads both networks again.
    del network, quantized
    trim()
    # First the weights, then the network that refers to them, and int8.json last: without it int8 counts as not made.
    for suffix in (".bin", ".xml"):
        (making / f"int8{suffix}").rename(converted.int8_path.with_suffix(suffix))
    verdict = Int8Check(len(calibration), len(checked), 1.0, 0.0)
    if len(checked):
        verdict = _verdict(
            verdict, converted, checked, is_multi=message["is_multi"], num_threads=message["num_threads"]
        )
    (making / "int8.json").write_text(json.dumps(dataclasses.asdict(verdict), indent=1))
    (making / "int8.json").rename(converted.folder / "int8.json")


def _outermost(network: openvino.Model) -> list[str]:
    """Return the names of the first convolution and the last matrix product, which stay in floating point."""
    # They are little of the work and most of the loss: without them a score moved by 0.057 instead of 0.110.
    names: dict[str, list[str]] = {"Convolution": [], "MatMul": []}
    for operation in network.get_ordered_ops():
        if operation.get_type_name() in names:
            names[operation.get_type_name()].append(operation.get_friendly_name())
    return names["Convolution"][:1] + names["MatMul"][-1:]


def _logits(
    converted: Converted, precision: str, windows: NDArray[np.float32], num_threads: int
) -> NDArray[np.float32]:
    runtime = OpenVinoRuntime(converted, precision, num_threads=num_threads)
    return np.concatenate([runtime.run(np.array(window[None])).logits for window in windows])


def _verdict(
    verdict: Int8Check,
    converted: Converted,
    windows: NDArray[np.float32],
    *,
    is_multi: bool,
    num_threads: int,
) -> Int8Check:
    exact, quantized = (_logits(converted, precision, windows, num_threads) for precision in ("fp32", "int8"))
    agreement = float((exact.argmax(axis=1) == quantized.argmax(axis=1)).mean())
    move = float(np.abs(sigmoid(exact) - sigmoid(quantized)).max())
    measured = dataclasses.replace(verdict, top1_agreement=agreement, largest_move=move)
    return dataclasses.replace(measured, refused=measured.refusal(is_multi=is_multi))


if __name__ == "__main__":
    main()
