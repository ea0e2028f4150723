"""Send a training's figures to TensorBoard, Weights & Biases or MLflow, each through its own package."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tonearm.errors import SettingsError
from tonearm.extras import install_command
from tonearm.storage import filesystems
from tonearm.storage.uris import is_local, local_path

PROJECT = "tonearm"
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
LOGS = "tensorboard"


class Tracker(Protocol):
    """A destination for the figures of a training."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...
    def close(self, *, failed: bool) -> None: ...


class TensorBoard:
    """Event files in ``OUT/tensorboard``; if OUT is not a local folder, they are copied there at each evaluation."""

    def __init__(self, out: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.out = out
        self.folder = Path(local_path(out)) / LOGS if is_local(out) else Path(tempfile.mkdtemp(prefix="tonearm-tb-"))
        # A run that was killed repeats the steps since its last snapshot; purge what was logged of them the first time.
        self.writer = SummaryWriter(str(self.folder), purge_step=step or None)  # type: ignore[no-untyped-call]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write the values."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]
        # Not at each step, since copying to a store writes whole files.
        if any(name.startswith("validation/") for name in values):
            self.writer.flush()  # type: ignore[no-untyped-call]
            self._copy()

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        self.writer.close()  # type: ignore[no-untyped-call]
        self._copy()
        if not is_local(self.out):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _copy(self) -> None:
        if not is_local(self.out):
            filesystems.copy_files(self.folder, f"{self.out.rstrip('/')}/{LOGS}")


class WeightsAndBiases:
    """A run in the project ``tonearm``, or in that of WANDB_PROJECT; it is resumed under the same id."""

    def __init__(self, name: str, fingerprint: str, facts: Mapping[str, Any]) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            # A resumed run continues its curve instead of starting another one.
            id=fingerprint,
            resume="allow",
            config=dict(facts),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the values."""
        self.run.log(dict(values), step=step)

    def close(self, *, failed: bool) -> None:
        """End the run."""
        self.run.finish(exit_code=int(failed))


class MLflow:
    """A run in the experiment ``tonearm`` or MLFLOW_EXPERIMENT_NAME, on the server of MLFLOW_TRACKING_URI."""

    def __init__(self, name: str, fingerprint: str, facts: Mapping[str, Any]) -> None:
        import mlflow

        self.client = mlflow
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            mlflow.set_experiment(PROJECT)
        mlflow.start_run(run_name=name, tags={"fingerprint": fingerprint}, log_system_metrics=False)
        mlflow.log_params({key: str(value)[:500] for key, value in facts.items()})

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the values."""
        self.client.log_metrics(dict(values), step=step)

    def close(self, *, failed: bool) -> None:
        """End the run."""
        self.client.end_run("FAILED" if failed else "FINISHED")


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker whose package is missing, before the training starts.

    Raises:
        SettingsError: with the command that installs it.
    """
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            command = install_command("train") if name == "tensorboard" else f"pip install {name}"
            extra = " needs the extra 'train', which" if name == "tensorboard" else ""
            raise SettingsError(
                f"the tracker {name}{extra} is not installed; run {command}, or name others with --tracker (none for "
                "no tracker)"
            )


def open_trackers(
    names: Sequence[str], *, out: str, name: str, fingerprint: str, step: int, facts: Mapping[str, Any]
) -> list[Tracker]:
    """Return the trackers of a run that begins, or resumes, at ``step``."""
    makers: dict[str, Any] = {
        "tensorboard": lambda: TensorBoard(out, step),
        "wandb": lambda: WeightsAndBiases(name, fingerprint, facts),
        "mlflow": lambda: MLflow(name, fingerprint, facts),
    }
    return [makers[tracker]() for tracker in names]


def values_of(event: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of a loop's event, under the names that trackers show."""
    prefix = {"step": "train", "evaluation": "validation"}.get(event["kind"])
    if prefix is None:
        return {}
    return {f"{prefix}/{name}": float(value) for name, value in event.items() if name not in ("kind", "step", "epoch")}


@contextlib.contextmanager
def closing(trackers: Sequence[Tracker]) -> Iterator[None]:
    """Close all trackers at the end of the block, and tell them whether the run failed."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for tracker in trackers:
            tracker.close(failed=failed)
