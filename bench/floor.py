"""What decoding cannot cost less than: FFmpeg's decoder with its frames thrown away, and soxr by itself."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import numpy as np
import soxr

REPEATS, NATIVE, CHUNK_S = 5, 44100, 4.0
RATES = (16000, 32000)


def least_s(work: Callable[[], object]) -> float:
    """Return the least processor time of some repeats."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def decoder_s(path: Path) -> float:
    """Return what decoding a file's frames takes."""
    data = path.read_bytes()

    def decode() -> None:
        with av.open(io.BytesIO(data), "r") as container:
            for _ in container.decode(audio=0):
                pass

    return least_s(decode)


def resampler_s(rate: int, seconds: float) -> float:
    """Return what resampling mono noise at 44.1 kHz takes, in the quality and chunks that decoding has."""
    noise = np.random.default_rng(0).standard_normal(int(seconds * NATIVE)).astype(np.float32)
    size = int(CHUNK_S * NATIVE)

    def resample() -> None:
        stream = soxr.ResampleStream(NATIVE, rate, 1, dtype="float32", quality="HQ")
        for first in range(0, len(noise), size):
            stream.resample_chunk(noise[first : first + size])

    return least_s(resample)


def show(paths: Mapping[str, Path], seconds: float) -> str:
    """Return one line for tracks of so many seconds."""
    decoders = ", ".join(f"{name.upper()} {decoder_s(path):.3f}" for name, path in paths.items())
    resamplers = ", ".join(f"to {rate // 1000} kHz {resampler_s(rate, seconds):.3f}" for rate in RATES)
    return f"The floor of decoding, core-seconds: FFmpeg's decoder alone {decoders}; soxr alone {resamplers}."
