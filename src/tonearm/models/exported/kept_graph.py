"""What is kept of an exported graph that was read: a network in OpenVINO's form, and the facts about it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

FACTS = "facts.json"
# What it says of the windows of ``front_end.noise``, before any activation: float32 [windows, labels].
ANSWERS = "answers.npy"
# Raised when what a folder of these holds, or what it means, changes.
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Facts:
    """What was found out about a graph, beside the network that was made of it.

    Attributes:
        layout: the axes of its input.
        num_frames: of a spectrogram; None for a waveform.
        is_batched: whether a pass may take several windows; otherwise it takes one.
        scores: what its first output is: ``logits``, or scores that are ``independent`` or ``exclusive``.
        multi_label: whether labels are independent.
        scores_name, embedding_name: of the outputs; the scores are their own embedding where the latter is None.
    """

    layout: tuple[str, ...]
    num_frames: int | None
    is_batched: bool
    scores: str
    multi_label: bool
    embedding_dim: int
    num_parameters: int
    scores_name: str
    embedding_name: str | None
    openvino: str

    @property
    def network(self) -> str:
        """The name of the network's file."""
        return "batched.xml" if self.is_batched else "network.xml"

    @classmethod
    def read(cls, folder: Path) -> Facts | None:
        """Return the facts of a folder; None where there are none, of another format, or something is missing."""
        try:
            values = json.loads((folder / FACTS).read_text())
            if values.pop("format") != FORMAT:
                return None
            facts = cls(**{**values, "layout": tuple(values["layout"])})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        network = folder / facts.network
        whole = (network, network.with_suffix(".bin"), folder / ANSWERS)
        return facts if all(path.is_file() for path in whole) else None

    def write(self, folder: Path) -> None:
        """Write the facts."""
        partial = folder / f"{FACTS}.partial"
        partial.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1))
        partial.rename(folder / FACTS)
