"""A training's loop on Ray Train, from the driver's side; imported where there is something to train."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from tonearm.distributed.cluster.session import background_poll
from tonearm.distributed.cluster.session import training_session as training_session
from tonearm.distributed.training.worker import train_worker
from tonearm.distributed.training.worker_events import WorkerEvents, start_worker_events
from tonearm.errors import Stopped, TrainingError, last_line
from tonearm.planning.layout import TrainingLayout
from tonearm.runs.lock import run_lock
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.training.destination import WORK
from tonearm.training.fit.result import Result, read_result
from tonearm.training.prepare import Prepared
from tonearm.training.publish.trackers import Tracker, closing, open_trackers, values_of
from tonearm.watchers import Watcher

# A checkpoint counts once Ray Train looks at its workers, each two seconds by default; a kill in between loses it.
HEALTH_CHECK = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")


def fit(
    out: str,
    prepared: Prepared,
    layout: TrainingLayout,
    watcher: Watcher,
    hold: run_lock.Hold,
    *,
    name: str,
) -> Result:
    """Run the loop on the workers of ``layout`` and return what it made.

    Args:
        name: what trackers call the run.

    Raises:
        TrainingError: training cannot go on.
        Stopped: it ended early; the same call goes on from the last checkpoint.
    """
    hold.check()
    settings = prepared.job.settings
    os.environ.setdefault(*HEALTH_CHECK)
    storage, path = filesystems.arrow_filesystem(f"{out.rstrip('/')}/{WORK}")
    events = start_worker_events()
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"prepared": ray.put(prepared), "events": events, "threads": layout.threads},
        scaling_config=ScalingConfig(
            num_workers=layout.num_workers,
            use_gpu=layout.use_gpu,
            resources_per_worker={"CPU": layout.worker_cpus, **({"GPU": 1} if layout.use_gpu else {})},
        ),
        run_config=RunConfig(
            name=prepared.fingerprint,
            storage_path=path,
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )

    def stop(failure: Stopped) -> None:
        events.fail(failure)

    with hold.on_lost(stop), _listening(events, out, name, prepared, watcher) as run:
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        try:
            result = trainer.fit()
        except (KeyboardInterrupt, SystemExit):
            # Ray Train answers Ctrl-C with a handler of its own, which ends in SystemExit.
            raise Stopped(f"stopped; the same command goes on from the last checkpoint in {shown(out)}") from None
        except Exception as error:
            fatal = events.read_failure()
            if fatal is not None:
                raise fatal from None
            raise Stopped(
                f"training ended early ({_reason(error)}); the same command goes on from the last checkpoint"
            ) from error
        finally:
            signal.signal(signal.SIGINT, on_ctrl_c)
        fatal = events.read_failure()
        if fatal is not None:
            raise fatal
    if result.checkpoint is None:
        raise TrainingError("training ended without a checkpoint; this is a bug, please report it")
    with result.checkpoint.as_directory() as folder:
        facts = {
            "workers": layout.num_workers,
            **{key: run.get(key) for key in ("precision", "why", "device", "step_size")},
        }
        return read_result(Path(folder), facts)


def _reason(error: BaseException) -> str:
    """Return the cause that a person can act on, in one line, from what Ray Train wraps it in."""
    failures = getattr(error, "worker_failures", None)
    cause: BaseException = next(iter(failures.values())) if failures else error
    cause = getattr(cause, "cause", None) or cause
    return last_line(cause)


@contextlib.contextmanager
def _listening(
    events: WorkerEvents, out: str, name: str, prepared: Prepared, watcher: Watcher
) -> Iterator[dict[str, Any]]:
    """Pass events on to the watcher and the trackers while the block runs; yield what the loop said at its start."""
    settings = prepared.job.settings
    run: dict[str, Any] = {}
    trackers: list[Tracker] = []

    def pass_on() -> None:
        for event in events.take():
            if event["kind"] == "start":
                run.update(event)
                if not trackers:
                    facts = _flat(dataclasses.asdict(settings))
                    trackers.extend(
                        open_trackers(
                            settings.trackers,
                            out=out,
                            name=name,
                            fingerprint=prepared.fingerprint,
                            step=event["step"],
                            facts=facts,
                        )
                    )
            for tracker in trackers:
                values = values_of(event)
                if values:
                    tracker.log(values, event["step"])
            watcher.event(event)

    with closing(trackers):
        try:
            with background_poll(pass_on):
                yield run
        finally:
            with contextlib.suppress(ray.exceptions.RayError):
                pass_on()


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
