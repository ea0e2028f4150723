"""Fine-tuning on Ray Train: the loop of ``tonearm.training`` on any number of workers, restarted where one dies.

::

    OUT/.training/FINGERPRINT/checkpoint_*    the last two step checkpoints, while a run is under way
    OUT/config.json, model.safetensors ...    the finished model

The same command after any kind of end goes on from the last checkpoint: Ray Train restarts dead workers by itself, and
a run of the same name finds its checkpoints in its storage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from tonearm.distributed.cluster import session
from tonearm.distributed.training.worker import train_worker
from tonearm.distributed.training.worker_events import start_journal
from tonearm.errors import DestinationError, Stopped, TrainingError, UsageError
from tonearm.models.runtimes import usable_cores
from tonearm.runs import differences
from tonearm.runs.destination import check_form
from tonearm.runs.lock import run_lock
from tonearm.runs.lock.lock_file import TERMS
from tonearm.settings import TrainSettings
from tonearm.storage import filesystems
from tonearm.storage.uris import is_local, local_path, shown
from tonearm.training.data.splits import FAULT_FILTERED, STRATIFIED, is_gtzan
from tonearm.training.fit.recipe import choose_precision
from tonearm.training.fit.result import Result, read_result
from tonearm.training.prepare import UNDECIDING, Prepared, check_space, prepare
from tonearm.training.publish.card import Comparison, main_side
from tonearm.training.publish.model_folder import CONFIG, METRICS, write_model
from tonearm.training.publish.trackers import check_trackers, closing, open_trackers, values_of

WORK, LOCK = ".training", "lock.json"
# A checkpoint counts once Ray Train looks at its workers, each two seconds by default; a kill in between loses it.
HEALTH_CHECK = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")


class Watcher(Protocol):
    """Who is told how training goes; the terminal, or a test."""

    def note(self, line: str) -> None: ...
    def decoding(self, num_done: int, num_clips: int) -> None: ...
    def event(self, event: dict[str, Any]) -> None: ...


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model that is written; ``is_new`` is False where it was there already."""

    out: str
    facts: dict[str, Any]
    is_new: bool


def train(source: str, out: str, settings: TrainSettings, watcher: Watcher, *, overwrite: bool = False) -> Trained:
    """Fine-tune on the labelled collection ``source`` and write the model to ``out``.

    Raises:
        UsageError: anything that can be known to fail before hours are spent.
        TrainingError: the loss is no number any more; the last good checkpoint stays in ``out``.
        Stopped: the run ended early; the same call goes on from its last checkpoint.
    """
    check_form(out, "--out")
    if settings.cache is not None:  # Ray Train starts its workers in another folder
        settings = dataclasses.replace(settings, cache=str(Path(settings.cache).absolute()))
    check_trackers(settings.trackers)
    _check_precision(settings)
    _check_empty(out, overwrite)
    prepared = prepare(source, settings, num_threads=usable_cores(), progress=watcher.decoding)
    done = _check_out(out, prepared, overwrite)
    if done is not None:
        return Trained(out, done, is_new=False)
    if is_local(out):
        with filesystems.writing(out):
            Path(local_path(out)).mkdir(parents=True, exist_ok=True)
        check_space(Path(local_path(out)), prepared.num_parameters)
    with run_lock.held_at(f"{out.rstrip('/')}/{WORK}/{LOCK}", out, waiting=watcher.note) as hold:
        # Again, now that nobody else writes there: hours may have gone by since, and another run may have ended.
        _check_empty(out, overwrite)
        done = _check_out(out, prepared, overwrite)
        if done is None and overwrite:
            _remove_old(out)
        facts = done if done is not None else _train(source, out, prepared, watcher, hold)
        hold.check()
        _remove(f"{out.rstrip('/')}/{WORK}")
    if done is not None:
        return Trained(out, done, is_new=False)
    return Trained(out, facts, is_new=True)


def _train(source: str, out: str, prepared: Prepared, watcher: Watcher, hold: run_lock.Hold) -> dict[str, Any]:
    settings = prepared.job.settings
    _note_settings(out, prepared)
    for line in prepared.notes:
        watcher.note(line)
    again = _prepare_again(source, prepared, watcher)
    with session.training_session(settings.workers, verbose=settings.verbose) as layout:
        choose_precision(settings.precision, "cuda" if layout.use_gpu else "cpu")
        result = _fit(out, prepared, layout, watcher, hold, name=Path(out).name)
        comparisons = []
        if again is not None:
            split = again.job.settings.labels.split_by
            watcher.note(f"once more on the split {split}, for its figures alone")
            for line in again.notes:
                watcher.note(f"{split}: {line}")
            figures = _fit(out, again, layout, watcher, hold, name=f"{Path(out).name}-{split}").figures(again)
            side = main_side(figures)
            if side is not None:
                comparisons.append(Comparison(split, side, figures[side]))
    hold.check()
    return write_model(out, prepared, result, source=source, comparisons=comparisons)


def _prepare_again(source: str, prepared: Prepared, watcher: Watcher) -> Prepared | None:
    """Return the run on the other split, if there is one, before hours are spent on the first."""
    settings, other = prepared.job.settings, other_split(prepared)
    if other is None:
        return None
    labels = dataclasses.replace(settings.labels, split_by=other, group_by=None)
    try:
        return prepare(source, dataclasses.replace(settings, labels=labels), num_threads=usable_cores())
    except UsageError as error:
        if settings.compare_split is not None:
            raise
        watcher.note(f"no comparison with the split {other}: {error.message}")
        return None


def _check_precision(settings: TrainSettings) -> None:
    """Refuse what this machine does not train in before anything is decoded; a cluster is asked once it is joined."""
    import torch

    is_elsewhere = os.environ.get("RAY_ADDRESS") is not None
    choose_precision(settings.precision, "cuda" if is_elsewhere or torch.cuda.is_available() else "cpu")


def other_split(prepared: Prepared) -> str | None:
    """Return the split on which a second run is made for its figures, or None for no second run."""
    settings = prepared.job.settings
    if settings.compare_split == "none":
        return None
    if settings.compare_split is not None:
        return settings.compare_split
    # A random split of GTZAN is known to flatter: both figures are shown.
    if settings.labels.split_by == STRATIFIED and is_gtzan(prepared.collection.tracks):
        return FAULT_FILTERED
    return None


def _check_empty(out: str, overwrite: bool) -> None:
    """Refuse a place that holds something else, before anything is decoded."""
    if overwrite:
        return
    names = filesystems.list_files(out)
    if names and METRICS not in names and not _unfinished(out):
        raise DestinationError(
            f"{shown(out)} holds other files ({names[0]}); give an empty --out, or --overwrite to write among them"
        )


def _unfinished(out: str) -> list[str]:
    """Return the fingerprints of the runs that have been begun there."""
    found, path = filesystems.filesystem(f"{out.rstrip('/')}/{WORK}")
    try:
        entries = found.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = {entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"}
    return sorted(names - {TERMS})


def _check_out(out: str, prepared: Prepared, overwrite: bool) -> dict[str, Any] | None:
    """Return what a finished run of the same settings has written to ``out``, if it has."""
    base = out.rstrip("/")
    if filesystems.exists(f"{base}/{METRICS}") and filesystems.exists(f"{base}/{CONFIG}"):
        facts: dict[str, Any] = json.loads(filesystems.read_bytes(f"{base}/{METRICS}"))
        if not overwrite:
            if facts.get("fingerprint") == prepared.fingerprint:
                return facts
            what = _differences(facts.get("settings"), prepared)
            raise DestinationError(
                f"{shown(out)} holds a model trained otherwise: {what}, another --out, or --overwrite to replace it"
            )
    begun = _unfinished(out)
    if begun and not overwrite and prepared.fingerprint not in begun:
        what = _differences(_begun(out, begun[-1]), prepared)
        raise DestinationError(
            f"{shown(out)} holds an unfinished run with other settings or clips: {what} to go on with it, another "
            "--out, or --overwrite to drop it"
        )
    return None


def _note_settings(out: str, prepared: Prepared) -> None:
    """Write down with what a run is begun, so that one with other settings can be told in words what differs."""
    text = json.dumps(dataclasses.asdict(prepared.job.settings), indent=1, default=str)
    filesystems.write_text(f"{out.rstrip('/')}/{WORK}/{prepared.fingerprint}.json", text)


def _begun(out: str, fingerprint: str) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads(filesystems.read_bytes(f"{out.rstrip('/')}/{WORK}/{fingerprint}.json"))
    except (FileNotFoundError, ValueError):  # begun by an earlier tonearm
        return None
    return facts


def _differences(there: Mapping[str, Any] | None, prepared: Prepared) -> str:
    """Return what of the settings differs, and how to give the same."""
    now = dataclasses.asdict(prepared.job.settings)
    changed = differences.changed(there, now, UNDECIDING) if there is not None else []
    if not changed:
        return "other clips or labels; give the same" if there is not None else "give the same again"
    same = " ".join(each.match for each in changed if each.match) or "the same"
    return f"{'; '.join(each.text for each in changed)}; give {same}"


def _remove_old(out: str) -> None:
    """Take away what would pass for this run's: a finished model, and other runs' checkpoints."""
    filesystems.delete(f"{out.rstrip('/')}/{CONFIG}")
    for name in _unfinished(out):
        _remove(f"{out.rstrip('/')}/{WORK}/{name}")


def _remove(url: str) -> None:
    found, path = filesystems.filesystem(url)
    with filesystems.writing(url), contextlib.suppress(FileNotFoundError):
        found.rm(path, recursive=True)


def _fit(
    out: str,
    prepared: Prepared,
    layout: session.TrainingLayout,
    watcher: Watcher,
    hold: run_lock.Hold,
    *,
    name: str,
) -> Result:
    hold.check()
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    settings = prepared.job.settings
    os.environ.setdefault(*HEALTH_CHECK)
    storage, path = filesystems.arrow_filesystem(f"{out.rstrip('/')}/{WORK}")
    journal = start_journal()
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"prepared": ray.put(prepared), "journal": journal, "threads": layout.threads},
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
        journal.fail.remote(failure)

    with hold.on_lost(stop), _listening(journal, out, name, prepared, watcher) as run:
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        try:
            result = trainer.fit()
        except (KeyboardInterrupt, SystemExit):
            # Ray Train answers Ctrl-C with a handler of its own, which ends in SystemExit.
            raise Stopped(f"stopped; the same command goes on from the last checkpoint in {shown(out)}") from None
        except Exception as error:
            fatal = ray.get(journal.fatal.remote())
            if fatal is not None:
                raise fatal from None
            raise Stopped(
                f"training ended early ({_reason(error)}); the same command goes on from the last checkpoint"
            ) from error
        finally:
            signal.signal(signal.SIGINT, on_ctrl_c)
        fatal = ray.get(journal.fatal.remote())
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
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(cause).__name__


@contextlib.contextmanager
def _listening(journal: Any, out: str, name: str, prepared: Prepared, watcher: Watcher) -> Iterator[dict[str, Any]]:
    """Pass events on to the watcher and the trackers while the block runs; yield what the loop said at its start."""
    import ray

    settings = prepared.job.settings
    run: dict[str, Any] = {}
    trackers: list[Any] = []

    def pass_on() -> None:
        for event in ray.get(journal.take.remote()):
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
            with session.polling(pass_on):
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
