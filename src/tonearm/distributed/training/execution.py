"""A training's loop on Ray Train, from the driver's side; imported only if there is something to train."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from tonearm.distributed.cluster.session import background_poll, training_session
from tonearm.distributed.training.worker import train_worker
from tonearm.distributed.training.worker_events import WorkerEvents, start_worker_events
from tonearm.errors import Stopped, TrainingError, last_line
from tonearm.planning.layout import TrainingLayout
from tonearm.runs.lock import run_lock
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.training.destination import WORK
from tonearm.training.fit.recipe import Precision, check_precision
from tonearm.training.fit.result import Result, read_result
from tonearm.training.judge.headline import main_side
from tonearm.training.plan import TrainingPlan
from tonearm.training.publish.card import Comparison
from tonearm.training.publish.model_folder import write_model
from tonearm.training.publish.trackers import Tracker, closing, open_trackers, values_of
from tonearm.watchers import Watcher

# A snapshot counts only once Ray Train has polled its workers, by default every two seconds; a kill before that loses
# it.
HEALTH_CHECK = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")


def run(
    out: str,
    plan: TrainingPlan,
    comparison: TrainingPlan | None,
    watcher: Watcher,
    hold: run_lock.Hold,
    *,
    source: str,
) -> dict[str, Any]:
    """Train as planned and write the model; return what its metrics.json says.

    Args:
        comparison: a training on another split, for its figures alone.

    Raises:
        TrainingError, Stopped, DestinationError: as ``fit`` and ``write_model``.
    """
    settings, name = plan.job.settings, Path(out).name
    with training_session(settings.workers, verbose=settings.verbose) as layout:
        check_precision(settings.precision, is_gpu=layout.use_gpu)
        result = fit(out, plan, layout, watcher, hold, name=name)
        comparisons = []
        if comparison is not None:
            split = comparison.job.settings.labels.split_by
            watcher.note(f"once more on the split {split}, for its figures alone")
            for line in comparison.notes:
                watcher.note(f"{split}: {line}")
            same = Precision(result.run["precision"], result.run["why"])
            other = fit(out, comparison, layout, watcher, hold, name=f"{name}-{split}", precision=same)
            figures = other.figures()
            side = main_side(figures)
            if side is not None:
                comparisons.append(Comparison(split, side, figures[side]))
    hold.check()
    return write_model(out, plan, result, source=source, comparisons=comparisons)


def fit(
    out: str,
    plan: TrainingPlan,
    layout: TrainingLayout,
    watcher: Watcher,
    hold: run_lock.Hold,
    *,
    name: str,
    precision: Precision | None = None,
) -> Result:
    """Run the loop on the workers of ``layout`` and return what it made.

    Args:
        name: what trackers call the run.
        precision: what another run has computed in; the workers choose without one.

    Raises:
        TrainingError: training cannot go on.
        Stopped: it ended early; the same call resumes from the last snapshot.
    """
    hold.check()
    settings = plan.job.settings
    os.environ.setdefault(*HEALTH_CHECK)
    storage, path = filesystems.arrow_filesystem(f"{out.rstrip('/')}/{WORK}")
    events = start_worker_events()
    config = {"job": ray.put(plan.job), "precision": precision, "events": events, "threads": layout.threads}
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=layout.num_workers,
            use_gpu=layout.use_gpu,
            resources_per_worker={"CPU": layout.worker_cpus, **({"GPU": 1} if layout.use_gpu else {})},
        ),
        run_config=RunConfig(
            name=plan.settings_hash,
            storage_path=path,
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    with hold.on_lost(events.fail), _listening(events, out, name, plan, watcher) as run:
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        try:
            result = trainer.fit()
        except (KeyboardInterrupt, SystemExit):
            # Ray Train sets its own handler for Ctrl-C, which raises SystemExit.
            raise Stopped(f"stopped; the same command resumes from the last snapshot in {shown(out)}") from None
        # What a worker or the controller raised comes as a TrainingFailedError, the end of Ray's own as a RayError.
        except (TrainingFailedError, ray.exceptions.RayError, OSError) as error:
            fatal = events.read_failure()
            if fatal is not None:
                raise fatal from None
            raise Stopped(
                f"training ended early ({_reason(error)}); the same command resumes from the last snapshot"
            ) from error
        finally:
            signal.signal(signal.SIGINT, on_ctrl_c)
        fatal = events.read_failure()
        if fatal is not None:
            raise fatal
    if result.checkpoint is None:
        raise TrainingError("training ended without a snapshot; this is a bug, please report it")
    with result.checkpoint.as_directory() as folder:
        facts = {
            "workers": layout.num_workers,
            **{key: run.get(key) for key in ("precision", "why", "device", "step_size")},
        }
        return read_result(Path(folder), plan.job, facts)


def _reason(error: BaseException) -> str:
    """Return the cause that a person can act on, in one line, from what Ray Train wraps it in."""
    failures = getattr(error, "worker_failures", None)
    cause: BaseException = next(iter(failures.values())) if failures else error
    cause = getattr(cause, "cause", None) or cause
    return last_line(cause)


@contextlib.contextmanager
def _listening(
    events: WorkerEvents, out: str, name: str, plan: TrainingPlan, watcher: Watcher
) -> Iterator[dict[str, Any]]:
    """Pass events on to the watcher and the trackers while the block runs; yield the loop's event of its start."""
    settings = plan.job.settings
    run: dict[str, Any] = {}
    trackers: list[Tracker] = []

    def pass_on() -> None:
        for event in events.take():
            if event["kind"] == "start":
                run.update(event)
                # Workers that are restarted send another start; the trackers of the run stay open.
                if not trackers:
                    facts = _flat(dataclasses.asdict(settings))
                    trackers.extend(
                        open_trackers(
                            settings.trackers,
                            out=out,
                            name=name,
                            fingerprint=plan.settings_hash,
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
            # The events that came after the last poll.
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
