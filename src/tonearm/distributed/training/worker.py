"""What Ray Train starts on each worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray

from tonearm.errors import TonearmError

if TYPE_CHECKING:
    from tonearm.distributed.training.worker_events import WorkerEvents


def train_worker(config: dict[str, Any]) -> None:
    """Run one worker's part, on that worker."""
    # Not at the top: Ray Train's controller loads this module too, and has no use for torch.
    from tonearm.distributed.training import process_group

    events: WorkerEvents = config["events"]
    if events.read_failure() is not None:
        # Ray Train starts failed workers again, but what has failed for good would only fail again.
        return
    try:
        process_group.run_loop(ray.get(config["job"]), events, config["threads"], config["precision"])
    except TonearmError as error:
        events.fail(error, wait=True)
        raise
