"""How many windows a second a converted checkpoint scores on this processor, measured once and kept.

Only trying tells: bf16 is 2.7 times as fast as fp32 on one processor and slower on another that has the same
instructions. ::

    ~/.cache/tonearm/models/<checkpoint>.rates.json    {PROCESSOR: {"bf16 163840 2": {"1x2": 3.1, "2x1": 3.4}}}

A key is the precision, the samples of a window and the threads; its rates are by layout, passes at a time × threads of
each.
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
# A precision is used for its speed alone. Less than this is no gain that a second measurement would find again.
LEAST_GAIN = 1.05


class KnownRate(NamedTuple):
    """Windows a second of so many samples, in the fastest layout of so many threads."""

    precision: str
    window_samples: int
    num_threads: int
    windows_per_s: float

    def __str__(self) -> str:
        return f"{self.precision} {self.windows_per_s:.3g} windows/s ({counted(self.num_threads, 'thread')})"


def fastest_streams(converted: Converted, precision: str, window_samples: int, num_threads: int) -> int:
    """Return how many passes at a time are fastest with so many threads."""
    if num_threads < 2:
        return 1
    rates = _rates(converted, precision, window_samples, num_threads, _measure_here)
    return int(max(rates, key=lambda layout: rates[layout]).split("x")[0]) if rates else 1


def rate(converted: Converted, precision: str, window_samples: int, num_threads: int) -> float | None:
    """Return the windows a second in the fastest layout; None where they cannot be measured or kept.

    What is not known yet is measured in a process of its own: this one shall not keep a second network's memory.
    """
    rates = _rates(converted, precision, window_samples, num_threads, _measure_in_child)
    return max(rates.values()) if rates else None


def next_best(converted: Converted, window_samples: int, num_threads: int) -> str:
    """Return the faster of fp32 and bf16, for where int8 is not to be used."""
    if not has_bf16():
        return "fp32"
    exact, half = (rate(converted, precision, window_samples, num_threads) for precision in ("fp32", "bf16"))
    return "fp32" if exact is not None and half is not None and half < LEAST_GAIN * exact else "bf16"


def no_gain(converted: Converted, precision: str, window_samples: int, num_threads: int) -> str | None:
    """Return why a precision is not worth its inexactness here, with both rates, or None where it is.

    It is compared with what is closer to the reference: bf16 with fp32, int8 with the faster of those two.
    """
    if precision not in ("bf16", "int8"):
        return None
    closer = "fp32" if precision == "bf16" else next_best(converted, window_samples, num_threads)
    asked, other = (rate(converted, each, window_samples, num_threads) for each in (precision, closer))
    if asked is None or other is None or asked >= LEAST_GAIN * other:
        return None
    return (
        f"it gains nothing here: {asked:.2f} windows a second, {other:.2f} in {closer}, on {processor_name()} with "
        f"{counted(num_threads, 'thread')}"
    )


def known_rates(digest: str) -> list[KnownRate]:
    """Return what was measured on this processor, in the order in which it was."""
    path = _path(digest)
    if not path.is_file():  # then nobody has to load OpenVINO for the processor's name
        return []
    known = []
    for key, rates in _kept(path).get(processor_name(), {}).items():
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
    """Return the rates by layout, measured now unless they are known; none where the cache cannot be written."""
    key, path = f"{precision} {window_samples} {num_threads}", _path(converted.digest)
    measured = _kept(path).get(processor_name(), {})
    if key in measured:
        return measured[key]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place_of(converted.digest)}.lock"):
            kept = _kept(path)
            measured = kept.setdefault(processor_name(), {})
            if key not in measured:
                measured[key] = measure(converted, precision, window_samples, num_threads)
                path.write_text(json.dumps(kept, indent=1))
    except OSError:
        return measured.get(key, {})
    return measured[key]


def _measure_here(converted: Converted, precision: str, window_samples: int, num_threads: int) -> Rates:
    # It loads torch, which a driver that only asks what is known does without.
    from tonearm.models.openvino.runtime import measure_streams

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
    rates: Rates = json.loads(printed.splitlines()[-1])
    return rates


def _path(digest: str) -> Path:
    return Path(f"{place_of(digest)}.rates.json")


def _kept(path: Path) -> dict[str, dict[str, Rates]]:
    return read_json(path)
