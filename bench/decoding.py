"""Decoding and resampling on one core, codec by codec, against ``librosa.load``; and what the sandbox adds.

Each in a process of its own that may use one core: python -m bench.decoding FOLDER prints JSON.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.clips import CLIP_S, ENCODINGS, write_clips
from bench.figures import Figure, Section, in_turns
from bench.processor_time import processor_s

RATE = 16000
SANDBOX_REPEATS = 25
# What int16 and another decoder of the same bits may differ by.
TOLERANCE = {"wav": 1e-4, "flac": 1e-4}


@dataclasses.dataclass(frozen=True)
class Case:
    """A clip a codec."""

    folder: Path


def cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    """Yield what is measured."""
    write_clips(folder / "codecs", list(ENCODINGS), seed=5)
    yield Case(folder / "codecs")


def measure(case: Case, folder: Path) -> Section:
    """Time every codec."""
    command = [sys.executable, "-m", "bench.decoding", str(case.folder)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    codecs = found["codecs"]
    ratios = [[peer / own for own, peer in codec["times"]] for codec in codecs.values()]
    means = tuple(math.exp(statistics.fmean(map(math.log, repeat))) for repeat in zip(*ratios, strict=True))
    # The best of five each: what a busy machine adds is more than what is looked for.
    groups = [found["sandbox"][first : first + 5] for first in range(0, SANDBOX_REPEATS, 5)]
    added = tuple(min(boxed for _, boxed in group) / min(plain for plain, _ in group) - 1 for group in groups)
    lines = [
        "## Decoding: 30 s of stereo to 16 kHz mono, one core",
        "",
        "| | tonearm, × real time | peer | ratio, median | spread |",
        "|---|---:|---|---:|---:|",
    ]
    for (name, codec), ratio in zip(codecs.items(), ratios, strict=True):
        own_s = statistics.median(own for own, _ in codec["times"])
        spread = f"{min(ratio):.2f} to {max(ratio):.2f}"
        lines.append(
            f"| {name} | {CLIP_S / own_s:,.0f} | {codec['peer']} | {statistics.median(ratio):.2f}× | {spread} |"
        )
    is_right = all(codecs[name]["difference"] < limit for name, limit in TOLERANCE.items())
    worst = max(codecs[name]["difference"] for name in TOLERANCE)
    lines += ["", f"WAV and FLAC differ from librosa's by at most {worst:.1e}, most of it int16's."]
    figures = (
        Figure("decode + resample per core against librosa.load, geometric mean", means, 1.35),
        Figure("the sandbox adds to decoding six codecs", added, 0.03, "%", is_at_most=True),
    )
    return Section("\n".join(lines), is_right, figures)


def compare(path: Path) -> dict[str, Any]:
    """Return the seconds of tonearm and of its peer on one file, in turns, and how far their waveforms differ."""
    import librosa

    from tonearm.audio.decode import decode
    from tonearm.audio.windows import dequantize

    data, request = path.read_bytes(), _request()
    try:
        librosa.load(path, sr=RATE)
        peer, name = (lambda: librosa.load(path, sr=RATE)[0]), "librosa.load"
    except Exception:  # noqa: BLE001  whatever it cannot read, FFmpeg is the peer for
        peer, name = (lambda: _ffmpeg(data)), "PyAV and soxr"
    (stream,) = decode(data, request).streams
    own, other = dequantize(stream.pcm, stream.scale), peer()
    size = min(len(own), len(other))
    difference = float(np.abs(own[:size] - other[:size]).max())
    return {"peer": name, "difference": difference, "times": in_turns(lambda: decode(data, request), peer)}


def sandboxed(folder: Path) -> list[tuple[float, float]]:
    """Return the processor time that all files take in this process and in a sandbox, its child's too, in turns.

    By the clock other programs would count: the child is nicer to them than this process is.
    """
    from tonearm.audio.decode import decode
    from tonearm.audio.sandbox import MALLOC, DecodeSandbox
    from tonearm.settings import DecodeSettings

    files, request = [path.read_bytes() for path in sorted(folder.iterdir())], _request()
    if any(name not in os.environ for name in MALLOC):
        raise RuntimeError("the allocator must be that of the sandbox's child, or it is the allocator that is timed")
    with DecodeSandbox(DecodeSettings()) as sandbox:

        def plain() -> None:
            for data in files:
                decode(data, request)

        def boxed() -> None:
            for data in files:
                sandbox.decode(data, request)

        def processors_s(work: Callable[[], None]) -> float:
            child = sandbox.child_pid
            assert child is not None  # the first turn has started it
            started = time.process_time() + processor_s(child)
            work()
            return time.process_time() + processor_s(child) - started

        plain(), boxed()
        return [(processors_s(plain), processors_s(boxed)) for _ in range(SANDBOX_REPEATS)]


def _request() -> Any:
    from tonearm.audio.decode import DecodeRequest
    from tonearm.audio.windows import WindowPlan

    return DecodeRequest((WindowPlan(RATE, 30 * RATE, 30 * RATE, None, 400),), 14400.0)


def _ffmpeg(data: bytes) -> np.ndarray:
    import av
    import soxr

    with av.open(io.BytesIO(data)) as container:
        rate = container.streams.audio[0].rate
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return soxr.resample(np.concatenate(frames, axis=1).mean(axis=0), rate, RATE, quality="HQ")


def main() -> None:
    """Measure the folder's files on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if len(sys.argv) > 2:
        print(json.dumps(sandboxed(Path(sys.argv[1]))))
        return
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    codecs = {path.suffix[1:]: compare(path) for path in sorted(folder.iterdir())}
    from tonearm.audio.sandbox import MALLOC

    again = [sys.executable, "-m", "bench.decoding", str(folder), "sandbox"]
    boxed = subprocess.run(again, check=True, capture_output=True, text=True, env={**os.environ, **MALLOC})
    print(json.dumps({"codecs": codecs, "sandbox": json.loads(boxed.stdout)}))


if __name__ == "__main__":
    main()
