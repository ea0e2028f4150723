"""What is cached of an exported graph: a network in OpenVINO's format, and the facts about it; what it then gives."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import openvino

FACTS = "facts.json"
# Its scores of the windows of ``front_end.noise``, before any activation: float32 [windows, labels]. A network that is
# compiled later must give the same ones.
ANSWERS = "answers.npy"
# Increased when the files of a folder, or their meaning, change; folders of another format are made again.
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known about a graph, stored beside the network that was made of it.

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
        # A person may have cleared part of the cache.
        whole = (network, network.with_suffix(".bin"), folder / ANSWERS)
        return facts if all(path.is_file() for path in whole) else None

    def write(self, folder: Path) -> None:
        """Write the facts."""
        # Renamed when it is complete: a folder without facts counts as not made.
        partial = folder / f"{FACTS}.partial"
        partial.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1))
        partial.rename(folder / FACTS)


class GraphOutputs(NamedTuple):
    """What a network gives for windows; ``Facts.scores`` says what its scores are.

    Attributes:
        scores: float32 [B, labels].
        embedding: float32 [B, dim]; the scores where the graph has none.
    """

    scores: NDArray[np.float32]
    embedding: NDArray[np.float32]

    @classmethod
    def of(cls, request: openvino.InferRequest) -> GraphOutputs:
        """Return what the request's last pass gave."""
        # Copied: the request's next pass writes over its tensors.
        tensors = [tensor.data.copy() for tensor in request.output_tensors]
        return cls(tensors[0], tensors[-1])

    @classmethod
    def joined(cls, outputs: Iterable[GraphOutputs]) -> GraphOutputs:
        """Return those of several passes, at least one, as if it had been one."""
        scores, embeddings = zip(*outputs, strict=True)
        return cls(np.concatenate(scores), np.concatenate(embeddings))
