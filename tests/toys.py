"""Packages that add to tonearm, made and installed as any other: a wheel, by pip, into a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

TOY = Path(__file__).parent / "data" / "toy_tonearm"
TOY_ENTRIES = {
    "tonearm.families": {"toy": "toy_tonearm.family:Toy"},
    "tonearm.sources": {"toy": "toy_tonearm.source:Toy"},
    "tonearm.exporters": {"toy": "toy_tonearm.exporter:Toy"},
    "tonearm.heads": {"level": "toy_tonearm.head:Level"},
}


def described(name: str, entries: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the files that say what a package is and what it adds."""
    points = "".join(
        f"[{group}]\n" + "".join(f"{point} = {value}\n" for point, value in points.items())
        for group, points in entries.items()
    )
    folder = f"{name.replace('-', '_')}-1.0.dist-info"
    wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return {
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{folder}/WHEEL": wheel,
        f"{folder}/entry_points.txt": points,
        f"{folder}/RECORD": "",
    }


def toy_model() -> dict[str, bytes]:
    """Return the files of a model of the toy family: loud where a window's mean level is over 0.1."""
    labels = {"0": "quiet", "1": "loud"}
    config = {
        "model_type": "toy",
        "architectures": ["ToyForAudioClassification"],
        "hidden_size": 16,
        "id2label": labels,
    }
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "feature_size": 1}
    weights = {
        "classifier.weight": np.stack([np.zeros(16), np.ones(16)]).astype(np.float32),
        "classifier.bias": np.array([0.0, -1.6], np.float32),
    }
    return {
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": json.dumps({**extractor, "do_normalize": False, "padding_value": 0.0}).encode(),
        "model.safetensors": save(weights, {"format": "pt"}),
    }


def install_toy(target: Path, work: Path) -> Path:
    """Install ``toy-tonearm`` into ``target`` with pip."""
    wheel = work / "toy_tonearm-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted(TOY.glob("*.py")):
            archive.write(path, f"toy_tonearm/{path.name}")
        for name, data in toy_model().items():
            archive.writestr(f"toy_tonearm/level/{name}", data)
        for name, text in described("toy-tonearm", TOY_ENTRIES).items():
            archive.writestr(name, text)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def lay_out(target: Path, name: str, entries: Mapping[str, Mapping[str, str]], **modules: str) -> Path:
    """Put a package of single modules into ``target`` as an installer would leave it."""
    for path, text in {
        **described(name, entries),
        **{f"{module}.py": text for module, text in modules.items()},
    }.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text)
    return target
