"""What tests of musicnn share: windows, their features by librosa, and checkpoints in TensorFlow's format."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.models.musicnn.tensorflow_checkpoint import masked_crc

Array = NDArray[Any]
SAMPLE_RATE, NUM_SAMPLES = 16000, 47872
FILTERS = {"conv2d": (7, 38, 1, 204), "conv2d_1": (7, 67, 1, 204)}
FILTERS |= {f"conv2d_{place + 2}": (frames, 1, 1, 51) for place, frames in enumerate((128, 64, 32))}
FILTERS |= {f"conv2d_{place + 5}": (7, channels, 1, 64) for place, channels in enumerate((561, 64, 64))}
LAYERS = {**FILTERS, "dense": (1506, 200), "dense_1": (200, 50)}
NORMS = (1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200)
TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}


def windows() -> NDArray[np.float32]:
    """Return six windows [6, samples] that differ: chords, a chirp, noise, beats, a loud bass, something quiet."""
    rng = np.random.default_rng(7)
    time_s = np.arange(NUM_SAMPLES) / SAMPLE_RATE
    chord = sum(
        np.sin(2 * np.pi * pitch_hz * time_s) / (1 + place) for place, pitch_hz in enumerate((220, 277, 330, 440))
    )
    chirp = 0.4 * np.sin(2 * np.pi * (60 * time_s + 600 * time_s**2))
    noise = 0.1 * rng.standard_normal(NUM_SAMPLES)
    beats = np.exp(-30 * (time_s % 0.25)) * (np.sin(2 * np.pi * 80 * time_s) + 0.3 * rng.standard_normal(NUM_SAMPLES))
    bass = np.clip(2 * np.sin(2 * np.pi * 55 * time_s), -0.99, 0.99)
    quiet = 1e-4 * chord * (1 + np.sin(2 * np.pi * 3 * time_s))
    return np.stack([0.2 * chord, chirp, noise, 0.5 * beats, bass, quiet]).astype(np.float32)


def librosa_features(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [187, 96] as the package computed them when its models were trained.

    That was librosa below 0.10, which mirrored the ends, and numpy below 2, where a float16 array times 10000 is of
    float32; what numpy 2 makes of the same line is infinite wherever a band has more than 6.5.
    """
    import librosa

    mel = librosa.feature.melspectrogram(
        y=window, sr=SAMPLE_RATE, hop_length=256, n_fft=512, n_mels=96, pad_mode="reflect"
    ).T[:187]
    features: NDArray[np.float32] = np.log10(10000 * mel.astype(np.float16).astype(np.float32) + 1)
    return features


def random_variables(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return variables of the published network's names and shapes, such that its layers neither fade nor explode."""
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    for name, shape in LAYERS.items():
        made[f"{name}/kernel"] = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
        made[f"{name}/bias"] = rng.uniform(-0.1, 0.1, shape[-1])
    for place, channels in enumerate(NORMS):
        name = f"batch_normalization_{place}" if place else "batch_normalization"
        made[f"{name}/gamma"] = rng.uniform(-1.5, 1.5, channels)  # some below zero, as in the published ones
        made[f"{name}/beta"] = rng.uniform(-0.5, 0.5, channels)
        made[f"{name}/moving_mean"] = rng.uniform(-0.5, 0.5, channels)
        made[f"{name}/moving_variance"] = rng.uniform(0.5, 2.0, channels)
    return {name: values.astype(np.float32) for name, values in made.items()}


def small_variables() -> dict[str, Array]:
    """Return what ``data/tensorflow_checkpoint`` holds: many names that begin alike, several types and shapes."""
    rng = np.random.default_rng(3)
    made: dict[str, Array] = {
        f"layer_{place}/kernel/Adam": rng.standard_normal((place, 3)).astype(np.float32) for place in range(1, 40)
    }
    made |= {"step": np.array(2**40), "scale": np.array(0.25, np.float32)}
    return made | {"wide": np.array([1.5, -2.5]), "none": np.zeros((0, 2))}


def write_checkpoint(prefix: str | Path, variables: Mapping[str, Array], *, block_entries: int = 16) -> None:
    """Write variables as TensorFlow 1 does: ``PREFIX.data-00000-of-00001``, and ``PREFIX.index``, a LevelDB table."""
    data, entries = b"", [(b"", _fields((1, 1), (3, _fields((1, 1)))))]
    for name, values in sorted(variables.items(), key=lambda item: item[0].encode()):
        stored = np.ascontiguousarray(values).tobytes()
        shape = _fields(*((2, _fields((1, size))) for size in np.shape(values)))
        place = [(4, len(data))] if data else []
        fields = _fields((1, TYPES[str(values.dtype)]), (2, shape), *place, (5, len(stored)))
        entries.append((name.encode(), fields + bytes([6 << 3 | 5]) + struct.pack("<I", masked_crc(stored))))
        data += stored
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    table, handles = b"", []
    for first in range(0, len(entries), block_entries):
        part = entries[first : first + block_entries]
        handles.append((part[-1][0] + b"\0", _varint(len(table)) + _varint(len(block := _block(part)))))
        table += _sealed(block)
    footer = b""
    for block in (_block([]), _block(handles)):
        footer += _varint(len(table)) + _varint(len(block))
        table += _sealed(block)
    Path(f"{prefix}.index").write_bytes(table + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))


def write_wheel(path: Path, checkpoints: Mapping[str, Mapping[str, Array]]) -> Path:
    """Write a file with these models in the folders that the published wheel has them in; return it."""
    prefix = path.parent / "checkpoint"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("musicnn-0.1.0.dist-info/LICENSE.md", "Permission to use, copy, modify ...\n")
        for folder, variables in checkpoints.items():
            write_checkpoint(prefix, variables)
            for suffix in (".index", ".data-00000-of-00001"):
                written = Path(f"{prefix}{suffix}")
                file.write(written, f"musicnn/{folder}/{suffix}")
                written.unlink()
    return path


def _block(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    made, restarts, before = b"", [], b""
    for place, (key, value) in enumerate(entries):
        shared = 0
        if place % 4 == 0:
            restarts.append(len(made))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        made += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    restarts = restarts or [0]
    return made + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _sealed(block: bytes) -> bytes:
    return block + b"\0" + struct.pack("<I", masked_crc(block + b"\0"))


def _fields(*fields: tuple[int, int | bytes]) -> bytes:
    """Return a protocol buffer of whole numbers and of nested messages."""
    made = b""
    for number, value in fields:
        if isinstance(value, int):
            made += _varint(number << 3) + _varint(value)
        else:
            made += _varint(number << 3 | 2) + _varint(len(value)) + value
    return made


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])
