"""What the figures were measured on."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import psutil

# What decides how fast a forward pass is in each precision.
FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")


def processor() -> str:
    """Return the processor's name and those of its features that matter here, as Linux tells them."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    values = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in values.items()}
    flags = facts.get("flags", "").split()
    features = [name for name in FEATURES if name in flags]
    return f"{facts.get('model name', platform.machine())} ({', '.join(features) or 'no vector features known'})"


def describe() -> str:
    """Return processor, cores, memory and the versions that matter, in one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "ray", "av"))
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{processor()}, {psutil.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, {packages}"
    )
