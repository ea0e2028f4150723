"""What tests of converted models share: windows of sound, and a child process that must not be started."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.checkpoints import clips

RATE = 16000


def windows(num_windows: int, length_s: float = 1.0) -> NDArray[np.float32]:
    """Return float32 [num_windows, samples] of different sounds."""
    return np.stack(clips(17, num_clips=num_windows, length_s=length_s))


def no_child(message: dict[str, object]) -> None:
    """Stand in for ``cache.run_child`` where what is asked for must be there already."""
    raise AssertionError(f"a process was started to {message['task']}")
