"""How many windows per second a converted checkpoint scores on this processor, measured once and cached.

It has to be measured: bf16 is 2.7 times as fast as fp32 on one processor, and slower on another one with the same
instructions. ::

    ~/.cache/tonearm/models/<checkpoint>.rates.json    {PROCESSOR: {"bf16 163840 2": {"1x2": 3.1, "2x1": 3.4}}}

A key is the precision, the samples of a window and the threads. Its rates are by layout: passes at a time × threads per
pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from tonearm.models.openvino.cache import Converted, place_of, read_json, run_child
from tonearm.models.openvino.processor import has_bf16, processor_name
from tonearm.wording import counted

Rates = dict[str, float]
# A lower precision is used only for its speed. A smaller gain than this would not be found again by a second
# measurement.
LEAST_GAIN = 1.05


class KnownRate(NamedTuple):
    """Windows per second, of ``window_samples`` each, in the fastest layout of ``num_threads``."""

    precision: str
    window_samples: int
    num_threads: int
    windows_per_s: float

    def __str__(self) -> str:
        return f"{self.precision} {self.windows_per_s:.3g} windows/s ({counted(self.num_threads, 'thread')})"


def fastest_streams(converted: Converted, precision: str, window_samples: int, num_threads: int) -> int:
    """Return how many passes at a time are fastest with ``num_threads``."""
    if num_threads < 2:
        return 1
    rates = _rates(converted, precision, window_samples, num_threads, measure_here)
    return int(max(rates, key=lambda layout: rates[layout]).split("x")[0]) if rates else 1


def rate(converted: Converted, precision: str, window_samples: int, num_threads: int) -> float | None:
    """Return the windows per second in the fastest layout; None if they cannot be measured or cached."""
    # Measured in a child process, so that the memory of a second network does not stay in this one.
    rates = _rates(converted, precision, window_samples, num_threads, _measure_in_child)
    return max(rates.values()) if rates else None


def next_best(converted: Converted, window_samples: int, num_threads: int) -> str:
    """Return the faster of fp32 and bf16, for a checkpoint that int8 is not to be used for."""
    if not has_bf16():
        return "fp32"
    exact, half = (rate(converted, precision, window_samples, num_threads) for precision in ("fp32", "bf16"))
    return "fp32" if exact is not None and half is not None and half < LEAST_GAIN * exact else "bf16"


def no_gain(converted: Converted, precision: str, window_samples: int, num_threads: int) -> str | None:
    """Return why a precision is not worth its loss of accuracy here, with both rates; None if it is.

    It is compared with a more accurate one: bf16 with fp32, int8 with the faster of those two.
    """
    if precision not in ("bf16", "int8"):
        return None
    closer = "fp32" if precision == "bf16" else next_best(converted, window_samples, num_threads)
    asked, other = (rate(converted, name, window_samples, num_threads) for name in (precision, closer))
    if asked is None or other is None or asked >= LEAST_GAIN * other:
        return None
    return (
        f"it gains nothing here: {asked:.2f} windows/s, {other:.2f} in {closer}, on {processor_name()} with "
        f"{counted(num_threads, 'thread')}"
    )


def known_rates(digest: str) -> list[KnownRate]:
    """Return the rates that were measured on this processor, in the order of measuring."""
    path = _path(digest)
    # Asking for the processor's name loads OpenVINO, which a checkpoint without any rates can do without.
    if not path.is_file():
        return []
    known = []
    for key, rates in _by_processor(path).get(processor_name(), {}).items():
        precision, window_samples, num_threads = key.split()
        known.append(KnownRate(precision, int(window_samples), int(num_threads), max(rates.values())))
    return known


def _rates(
    converted: Converted,
    precision: str,
    window_samples: int,
    num_threads: int,
    measure: Callable[[Converted, str, int, int], Rates],
) -> Rates:
    """Return the rates by layout, measured now unless they are known; empty if the cache cannot be written."""
    key, path = f"{precision} {window_samples} {num_threads}", _path(converted.digest)
    measured = _by_processor(path).get(processor_name(), {})
    if key in measured:
        return measured[key]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place_of(converted.digest)}.lock"):
            # Another process may have measured while this one waited for the lock.
            by_processor = _by_processor(path)
            measured = by_processor.setdefault(processor_name(), {})
            if key not in measured:
                measured[key] = measure(converted, precision, window_samples, num_threads)
                path.write_text(json.dumps(by_processor, indent=1))
    except OSError:
        return measured.get(key, {})
    return measured[key]


def measure_here(converted: Converted, precision: str, window_samples: int, num_threads: int) -> Rates:
    """Return the rates by layout, measured in this process."""
    # Imported here because it loads torch, which a driver that only reads known rates can do without.
    from tonearm.models.openvino.runtime import measure_streams

    # How long a pass takes does not depend on the sound.
    noise = np.random.default_rng(0).standard_normal(window_samples).astype(np.float32) * 0.1
    return measure_streams(converted, precision, noise, num_threads)


def _measure_in_child(converted: Converted, precision: str, window_samples: int, num_threads: int) -> Rates:
    printed = run_child(
        {
            "task": "measure",
            "folder": str(converted.folder),
            "precision": precision,
            "window_samples": window_samples,
            "num_threads": num_threads,
        }
    )
    # The libraries may print lines of their own before the result.
    rates: Rates = json.loads(printed.splitlines()[-1])
    return rates


def _path(digest: str) -> Path:
    return Path(f"{place_of(digest)}.rates.json")


def _by_processor(path: Path) -> dict[str, dict[str, Rates]]:
    return read_json(path)
