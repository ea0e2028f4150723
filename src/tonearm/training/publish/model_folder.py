"""The folder that training ends with: what ``transformers`` loads, and beside it figures, pictures and a card."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from tonearm import __version__
from tonearm.models.calibration import TonearmSidecar, write_sidecar
from tonearm.storage import filesystems
from tonearm.storage.uris import shown
from tonearm.training.data.duplicates import count_by_side
from tonearm.training.destination import CONFIG, METRICS
from tonearm.training.fit.initial_weights import Classifier, empty_model
from tonearm.training.fit.result import Result
from tonearm.training.judge.headline import main_side
from tonearm.training.judge.json_text import json_text
from tonearm.training.judge.pictures import write_confusion, write_curves
from tonearm.training.plan import TrainingPlan
from tonearm.training.publish.card import Comparison, describe_split, source_share, write_card
from tonearm.wording import counted


def write_model(
    out: str, plan: TrainingPlan, result: Result, *, source: str, comparisons: list[Comparison]
) -> dict[str, Any]:
    """Write the model's folder to ``out``, a folder or an object store's prefix; return what metrics.json says.

    Raises:
        DestinationError: no space left, or a place that cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="tonearm-model-") as name:
        folder = Path(name)
        with filesystems.writing(name):
            facts = _write(folder, plan, result, source, comparisons)
        # config.json last: a folder that has one is whole.
        filesystems.copy_files(folder, out, last=CONFIG)
    return facts


def _write(
    folder: Path, plan: TrainingPlan, result: Result, source: str, comparisons: list[Comparison]
) -> dict[str, Any]:
    job = plan.job
    model, extractor = empty_model(job.initial, Classifier(job.labels, job.is_multi, job.settings.window_s))
    # ``assign``, since the empty model has shapes and no memory to copy into: no initial weights are loaded here.
    model.load_state_dict(result.weights, assign=True)
    model.eval()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    write_sidecar(folder, TonearmSidecar(window_s=job.windows.window_s))
    figures = result.figures()
    facts = _facts(plan, result, figures, source, comparisons)
    # A loss may be NaN or infinite, for which JSON has no number: ``json_text`` writes null.
    (folder / METRICS).write_text(json_text(facts))
    progress = result.progress
    write_curves(folder / "curves.png", progress.losses, progress.evaluations)
    side = main_side(figures)
    if side is not None and not job.is_multi:
        track = figures[side]["track"]
        title = f"{side}, {counted(figures[side]['num_tracks'], 'track')}, accuracy {track['accuracy']:.3f}"
        write_confusion(folder / "confusion.png", track["confusion"], job.labels, title=title)
    run = {**result.run, "tonearm": __version__}
    (folder / "README.md").write_text(write_card(plan, figures, comparisons, source=source, run=run))
    return facts


def _facts(
    plan: TrainingPlan, result: Result, figures: dict[str, Any], source: str, comparisons: list[Comparison]
) -> dict[str, Any]:
    job, progress = plan.job, result.progress
    side = main_side(figures)
    confounded = source_share(plan, side) if side is not None else None
    return {
        "fingerprint": plan.settings_hash,
        "tonearm": __version__,
        "source": shown(source),
        "labels": list(job.labels),
        "is_multi": job.is_multi,
        "num_parameters": plan.num_parameters,
        "split": {
            "by": describe_split(plan),
            **{name: len(numbers) for name, numbers in plan.split.sides().items()},
            "left_out": dict(plan.omitted.no_side),
            "unlabelled": plan.omitted.unlabelled,
            "twins": sum(exact + alike for exact, alike in count_by_side(plan.duplicates).values()),
            "copies_taken_out": plan.omitted.copies,
            "broken": plan.omitted.broken,
        },
        "source_alone": None if confounded is None else {"accuracy": confounded[0], "most_frequent": confounded[1]},
        "notes": list(plan.notes),
        "run": result.run,
        "steps": progress.step,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "kept_epoch": progress.kept_epoch,
        "evaluation": figures,
        "comparisons": [dataclasses.asdict(comparison) for comparison in comparisons],
        "curves": {"loss": progress.losses, "evaluations": progress.evaluations},
        "settings": dataclasses.asdict(job.settings),
    }
