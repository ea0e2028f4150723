"""The processes that a training loop runs on: one, or the workers of Ray Train.

The latter are in ``distributed.training.process_group``; this room does not import Ray.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from tonearm.training.fit.snapshot import STATE

T = TypeVar("T")


class ProcessGroup(Protocol):
    """The workers of a training, as seen by one of them.

    All methods except ``tell`` are collective: every worker must call them the same number of times.
    """

    rank: int
    size: int
    device: str

    # The model as it is trained: on the device, and with gradients averaged over the workers.
    def wrap(self, model: nn.Module) -> nn.Module: ...
    # Give all workers the first one's buffers, such as batch-norm statistics, which are not averaged.
    def align(self, model: nn.Module) -> None: ...
    def mean(self, value: float) -> float: ...
    def gather(self, value: T) -> list[T]: ...
    # The folder is None on all workers but the first, which writes the snapshot.
    def save(self, facts: dict[str, Any], folder: Path | None) -> None: ...
    def last_snapshot(self) -> Path | None: ...
    def tell(self, event: dict[str, Any]) -> None: ...


class SingleProcess:
    """A group of one process, without Ray; its snapshot is one folder."""

    rank, size = 0, 1

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder, self.device = folder, device
        self.events: list[dict[str, Any]] = []

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model on the device."""
        return model.to(self.device)

    def align(self, model: nn.Module) -> None:
        """Do nothing: there is only one model."""

    def mean(self, value: float) -> float:
        """Return the value."""
        return value

    def gather(self, value: T) -> list[T]:
        """Return a list with the value."""
        return [value]

    def save(self, facts: dict[str, Any], folder: Path | None) -> None:
        """Replace the last snapshot by this one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()) if folder is not None else []:
            (self.folder / path.name).write_bytes(path.read_bytes())

    def last_snapshot(self) -> Path | None:
        """Return the folder of the last snapshot, None if there is none."""
        return self.folder if (self.folder / STATE).is_file() else None

    def tell(self, event: dict[str, Any]) -> None:
        """Append the event to ``events``."""
        self.events.append(event)
