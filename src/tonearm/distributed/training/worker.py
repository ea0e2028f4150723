"""One of Ray Train's workers: where the loop runs, and how the driver hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tonearm.errors import DestinationError, TonearmError
from tonearm.storage import filesystems

if TYPE_CHECKING:
    # Seconds to import, and Ray Train's controller, which loads this module too, has no use for them.
    from torch import nn

    from tonearm.training.prepare import Prepared


def train_worker(config: dict[str, Any]) -> None:
    """Run one worker's part, on that worker."""
    import ray
    import ray.train
    import torch

    from tonearm.training.fit.loop import Loop

    journal = config["journal"]
    if ray.get(journal.fatal.remote()) is not None:
        return  # what cannot work is not tried again
    prepared: Prepared = ray.get(config["prepared"])
    torch.set_num_threads(config["threads"])
    try:
        world = _RayWorld(journal)
        cache = prepared.open_cache(config["threads"])
        Loop(prepared.job, prepared.start, cache, world, num_threads=config["threads"]).run()
    except TonearmError as error:
        ray.get(journal.fail.remote(error))
        raise


class _RayWorld:
    """One of Ray Train's workers; see ``training.fit.loop.World``."""

    def __init__(self, journal: Any) -> None:
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.journal = journal
        self.rank, self.size = context.get_world_rank(), context.get_world_size()
        self.device = str(ray.train.torch.get_device())

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model on its device, its gradients shared where there are several workers."""
        from ray.train.torch import prepare_model

        # A speech encoder's mask embedding takes part in some steps only.
        wrapped: nn.Module = prepare_model(model, parallel_strategy_kwargs={"find_unused_parameters": True})
        return wrapped

    def align(self, model: nn.Module) -> None:
        """Give every worker the first's running statistics, which its own batches have moved since the last step.

        Gradients are shared, these are not, and the first worker's are what is saved: a conformer's batch norms.
        """
        if self.size == 1:
            return
        import torch

        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)

    def mean(self, value: float) -> float:
        """Return the mean over the workers."""
        if self.size == 1:
            return value
        import torch

        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return float(total) / self.size

    def gather(self, value: Any) -> list[Any]:
        """Return every worker's value, by rank."""
        if self.size == 1:
            return [value]
        import torch

        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def save(self, facts: dict[str, Any], folder: Path | None) -> None:
        """Report to Ray Train, which stores the checkpoint before it returns; not where the run is to end."""
        import ray
        import ray.train

        fatal = ray.get(self.journal.fatal.remote())
        if fatal is not None:
            raise fatal
        checkpoint = None if folder is None else ray.train.Checkpoint.from_directory(str(folder))
        try:
            ray.train.report(facts, checkpoint=checkpoint)
        except OSError as error:
            raise DestinationError(
                f"a checkpoint could not be written ({filesystems.reason(error)}); free some space or give another "
                "--out, then run the same command again; the last good checkpoint is kept"
            ) from None

    def saved(self) -> Path | None:
        """Return a copy of the last checkpoint."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else Path(checkpoint.to_directory())

    def tell(self, event: dict[str, Any]) -> None:
        """Pass the event on to the driver."""
        if self.rank == 0:
            self.journal.tell.remote(event)
