"""What Ray Train starts on each worker; its controller, which has no use for torch, loads this module too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray

from tonearm.errors import TonearmError

if TYPE_CHECKING:
    from tonearm.distributed.training.worker_events import WorkerEvents


def train_worker(config: dict[str, Any]) -> None:
    """Run one worker's part, on that worker."""
    from tonearm.distributed.training import process_group  # torch

    events: WorkerEvents = config["events"]
    if events.read_failure() is not None:
        return  # what cannot work is not tried again
    try:
        process_group.run_loop(ray.get(config["job"]), events, config["threads"], config["precision"])
    except TonearmError as error:
        events.fail(error, wait=True)
        raise
