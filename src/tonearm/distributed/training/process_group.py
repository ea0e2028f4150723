"""Ray Train's workers as the training loop sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ray.train
import ray.train.torch
import torch
from ray.train.torch import prepare_model
from torch import nn

from tonearm.distributed.training.worker_events import WorkerEvents
from tonearm.errors import DestinationError
from tonearm.storage import filesystems
from tonearm.training.fit.loop import Loop

if TYPE_CHECKING:
    from tonearm.training.fit.job import TrainingJob
    from tonearm.training.fit.recipe import Precision

T = TypeVar("T")


def run_loop(job: TrainingJob, events: WorkerEvents, num_threads: int, precision: Precision | None) -> None:
    """Run this worker's part of the loop."""
    torch.set_num_threads(num_threads)
    group, clips = RayProcessGroup(events), job.open_clips(num_threads)
    Loop(job, clips, group, num_threads=num_threads, precision=precision).run()


class RayProcessGroup:
    """One of Ray Train's workers; see ``training.fit.process_group.ProcessGroup``."""

    def __init__(self, events: WorkerEvents) -> None:
        context = ray.train.get_context()
        self.events = events
        self.rank, self.size = context.get_world_rank(), context.get_world_size()
        self.device = str(ray.train.torch.get_device())

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model on its device, its gradients shared where there are several workers."""
        # A speech encoder's mask embedding takes part in some steps only.
        wrapped: nn.Module = prepare_model(model, parallel_strategy_kwargs={"find_unused_parameters": True})
        return wrapped

    def align(self, model: nn.Module) -> None:
        """Give every worker the running statistics of the first worker."""
        # Batch norms, as a conformer has them, differ between workers: gradients are averaged, buffers are not. The
        # first worker's are what a snapshot saves, so all must score with those.
        if self.size == 1:
            return
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)

    def mean(self, value: float) -> float:
        """Return the mean over the workers."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return float(total) / self.size

    def gather(self, value: T) -> list[T]:
        """Return every worker's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def save(self, facts: dict[str, Any], folder: Path | None) -> None:
        """Report to Ray Train, which stores the snapshot before it returns; not where the run is to end."""
        fatal = self.events.read_failure()
        if fatal is not None:
            raise fatal
        checkpoint = None if folder is None else ray.train.Checkpoint.from_directory(str(folder))
        try:
            ray.train.report(facts, checkpoint=checkpoint)
        except OSError as error:
            raise DestinationError(
                f"a snapshot could not be written ({filesystems.reason(error)}); free some space or give another "
                "--out, then run the same command again; the last good snapshot is kept"
            ) from None

    def last_snapshot(self) -> Path | None:
        """Return a copy of the last snapshot."""
        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else Path(checkpoint.to_directory())

    def tell(self, event: dict[str, Any]) -> None:
        """Pass the event on to the driver, from the first worker alone."""
        if self.rank == 0:
            self.events.tell(event)
