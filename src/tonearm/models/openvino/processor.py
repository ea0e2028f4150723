"""OpenVINO in this process, and what this processor can do; without torch, and OpenVINO only once it is asked."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino


@functools.cache
def core() -> openvino.Core:
    """Return this process's one ``openvino.Core``.

    Each has a stack of its own put under the thread's signal handlers, and takes it away when it goes, even from under
    another one's: after the first of two has gone, any signal that Python handles, Ctrl-C too, ends the process.
    """
    import openvino

    return openvino.Core()


@functools.cache
def has_bf16() -> bool:
    """Return whether this processor multiplies in bf16; elsewhere asking for it would silently change nothing."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
