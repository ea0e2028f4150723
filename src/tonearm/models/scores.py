"""What a head says of the windows of a track."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class WindowScores:
    """What a head says of each window: logits float32 [windows, labels], embedding float32 [windows, dim]."""

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
