"""Where a training loop runs: one process, or one of Ray Train's workers (``distributed.training.process_group``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from tonearm.training.fit.snapshot import STATE

T = TypeVar("T")


class ProcessGroup(Protocol):
    """The workers that a loop runs on, as one of them sees them.

    All methods but ``tell`` are collective: every worker must call them the same number of times.
    """

    rank: int
    size: int
    device: str

    def wrap(self, model: nn.Module) -> nn.Module: ...
    def align(self, model: nn.Module) -> None: ...
    def mean(self, value: float) -> float: ...
    def gather(self, value: T) -> list[T]: ...
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
        """Leave the only model as it is."""

    def mean(self, value: float) -> float:
        """Return the value."""
        return value

    def gather(self, value: T) -> list[T]:
        """Return the value alone."""
        return [value]

    def save(self, facts: dict[str, Any], folder: Path | None) -> None:
        """Keep the snapshot in place of the last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()) if folder is not None else []:
            (self.folder / path.name).write_bytes(path.read_bytes())

    def last_snapshot(self) -> Path | None:
        """Return the last snapshot."""
        return self.folder if (self.folder / STATE).is_file() else None

    def tell(self, event: dict[str, Any]) -> None:
        """Keep the event."""
        self.events.append(event)
